"""Image alignment: co-registers one raster to another."""
