"""Processes for work on people's files: forked from a clean one, bounded, replaced when they die."""
