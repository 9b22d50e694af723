"""Supervisor of a whole stack on one machine: Postgres, Valkey, API and workers."""
