"""Tasks as the API, event streams and webhooks show them."""
