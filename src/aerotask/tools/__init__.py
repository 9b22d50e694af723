"""The built-in tools, thin: parameters, plan, run."""
