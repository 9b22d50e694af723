"""Use cases for tasks, from submit to maintenance."""
