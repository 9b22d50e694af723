"""Use cases for organizations, datasets, entries, uploads and downloads."""
