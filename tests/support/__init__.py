"""Fixtures and helpers shared by several tests."""
