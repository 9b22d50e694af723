"""Routes and schemas for tools and tasks."""
