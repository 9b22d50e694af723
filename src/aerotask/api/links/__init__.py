"""Links: their management, and the routes that they open without a header."""
