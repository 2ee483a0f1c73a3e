"""A demo scene with known truth: six-band imagery of an invented coast before and after a fire."""
