"""The HTTP face: the same operations for curl, browsers and health checks."""
