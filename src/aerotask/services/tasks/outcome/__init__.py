"""Outcomes of attempts: declared changes, and their commit in one transaction."""
