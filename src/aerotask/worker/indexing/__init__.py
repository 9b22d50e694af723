"""Index of entries: metadata of new files and overviews of new rasters, in batches by children."""
