"""A home in a PostgreSQL database, which several daemons may share."""
