"""Routes and schemas for organizations, datasets, entries, uploads and downloads."""
