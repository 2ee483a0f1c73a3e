"""Finished map products: part files, one COG, polygons without seams, a picture and a STAC item."""
