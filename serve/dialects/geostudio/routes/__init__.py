"""Their endpoints, by resource; thin."""
