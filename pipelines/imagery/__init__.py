"""Imagery in files: which files, what they say of themselves, which band is which, and windows of their pixels."""
