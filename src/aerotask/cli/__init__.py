"""Command line `aerotask`: one module per group of commands."""

from aerotask.cli.app import main

__all__ = ["main"]
