"""Static files served to browsers: pages, styles and scripts."""
