"""Clouds, snow, water and ocean in a result: what tells them, and the raster that carries their codes."""
