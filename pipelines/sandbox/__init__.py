"""Programs of strangers, run where they can harm nobody."""
