"""TAR files: headers and extraction."""
