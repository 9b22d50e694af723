"""What the platform does, one use case per function; transactions begin and end here."""
