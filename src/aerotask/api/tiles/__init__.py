"""Routes and schemas for tiles, thumbnails and previews."""
