"""Layers in the words of maps: XYZ and TileJSON, WMS, WMTS."""
