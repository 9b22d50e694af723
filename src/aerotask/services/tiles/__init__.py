"""Use cases for tiles, thumbnails and previews."""
