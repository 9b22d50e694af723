"""Draws what people look at: map tiles, thumbnails and previews, in children that may crash or hang."""
