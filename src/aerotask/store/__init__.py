"""Postgres: the tables, and every query under a name."""
