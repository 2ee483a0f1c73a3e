"""What carries jobs out: who takes them from the queue, who works on them, and how nothing is lost when either dies."""
