"""Routes and schemas for users, API keys and the audit log."""
