"""Bytes under names, on a folder or in object storage, and a run that lives there."""
