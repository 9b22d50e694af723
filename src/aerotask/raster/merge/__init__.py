"""Merge of single-band rasters into one multispectral raster."""
