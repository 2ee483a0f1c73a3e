"""Vector files of strangers become rasters, by a program in the sandbox; no other process opens them."""
