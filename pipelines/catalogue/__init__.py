"""A STAC catalogue of one's own, in one SQLite file."""
