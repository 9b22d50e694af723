"""HTTP API: routes that parse, authorise, call one service and render the response."""
