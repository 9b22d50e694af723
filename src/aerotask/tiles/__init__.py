"""Tile server: rendering of map tiles, thumbnails and previews."""
