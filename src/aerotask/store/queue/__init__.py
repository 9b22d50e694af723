"""Queries for the task queue: claims, leases, transitions, retention."""
