"""The configurations, and the only way to change them."""
