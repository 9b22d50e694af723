"""Queries about the storage: the installation that it belongs to, and its unnamed and released blobs."""
