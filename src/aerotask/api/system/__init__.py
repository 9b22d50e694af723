"""Routes and schemas for the installation itself."""
