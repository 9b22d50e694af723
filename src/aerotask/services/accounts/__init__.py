"""Use cases for users, authentication, permissions and the audit log."""
