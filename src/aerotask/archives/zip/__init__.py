"""ZIP files: records, central directory, extraction, writing and streaming."""
