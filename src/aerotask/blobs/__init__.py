"""Blob storage: write-once files under generated keys, and partial files of resumable uploads."""
