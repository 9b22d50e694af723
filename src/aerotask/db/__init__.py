"""Postgres: engine, models, locks, notifications and migrations."""
