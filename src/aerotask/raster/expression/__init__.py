"""Band expressions and vegetation indices."""
