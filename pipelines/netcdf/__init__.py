"""NetCDF of strangers becomes GeoTIFF, by a program in the sandbox; no other process opens it."""
