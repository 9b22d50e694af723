"""Cloud Optimized Point Clouds (COPC 1.0, https://copc.io): an octree of LAZ chunks in one file."""
