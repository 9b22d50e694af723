"""Metadata of photos: EXIF, XMP, camera, pose and footprint."""
