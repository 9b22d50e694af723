"""Queries for users, API keys, logins and the audit log."""
