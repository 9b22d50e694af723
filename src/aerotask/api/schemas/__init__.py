"""The bodies that routes take and the answers that they give, a module for each part of the interface."""
