"""Queries for organizations, datasets and entries."""
