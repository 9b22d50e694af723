"""Runs tasks: claims them, supervises one child process each, applies what they declare."""
