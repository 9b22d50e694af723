"""TIFF writer: tiled GeoTIFFs and COGs, written by several threads."""
