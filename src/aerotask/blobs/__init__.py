"""Where contents lie: write-once files under generated keys."""
