"""HTTP itself: errors, middleware, request bodies, ranges, preconditions, pagination."""
