"""What a file is: its type and its properties, read from its content."""
