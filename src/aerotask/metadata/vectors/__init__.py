"""Vector files as the index and the builds read them alike."""
