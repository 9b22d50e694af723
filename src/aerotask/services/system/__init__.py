"""Metrics and readiness of the installation."""
