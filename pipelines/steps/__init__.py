"""What is done to a result after the model."""
