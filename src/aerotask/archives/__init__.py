"""Archives, written and read: members go in and out one by one, and nothing of a foreign archive is believed."""
