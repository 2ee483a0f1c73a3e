"""An asset as a source of pixels: blocks of TIFFs, other files through GDAL, tile services."""
