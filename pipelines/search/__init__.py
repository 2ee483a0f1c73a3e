"""Imagery, found: from a place and a time to scenes whose numbers are known."""
