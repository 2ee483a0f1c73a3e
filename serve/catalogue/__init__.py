"""The catalogue as a STAC API."""
