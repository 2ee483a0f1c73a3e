"""Rasters of results as map layers: found, opened, warped, coloured."""
