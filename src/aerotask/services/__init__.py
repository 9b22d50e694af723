"""Use cases, one per function; transactions begin and end here."""
