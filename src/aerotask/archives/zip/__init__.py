"""ZIP files: records, central directory, reader, file writer and stream writer."""
