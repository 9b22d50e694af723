"""What a browser is served beside the API: pages, styles and scripts."""
