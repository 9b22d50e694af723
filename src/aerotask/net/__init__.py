"""HTTP client with an SSRF guard, for addresses that users configure."""
