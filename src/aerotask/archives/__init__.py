"""Archives: streaming ZIP writer, and extraction of untrusted ZIP, TAR, 7z, RAR and single compressed files."""
