"""Wakeups of workers over a queue; a lost one delays a task, but never loses it."""
