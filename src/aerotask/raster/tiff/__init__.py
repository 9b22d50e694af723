"""Writes tiled GeoTIFFs from several threads at once: tiles as they come, the directory last."""
