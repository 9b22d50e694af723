"""Built-in tools, thin over the libraries below; entry points load them, and no module imports them."""

DOWNLOAD_TOOL = "bulk-download"
"""The tool for selections that are too large to stream; its params take `paths`."""
DEMO_TOOL = "raster-export"
"""The tool that `aerotask demo` runs."""
