"""What a task looks like to clients: over HTTP, in event streams and in callbacks."""
