"""Use cases of the storage: the installation that it belongs to, and the removal of unnamed blobs."""
