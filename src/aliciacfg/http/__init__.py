"""The HTTP server: the operations for curl, browsers and health checks; and the client of the command line."""
