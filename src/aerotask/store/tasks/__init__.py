"""Queries for tasks as clients see them: submit, status, webhooks."""
