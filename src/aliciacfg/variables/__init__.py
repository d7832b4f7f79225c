"""A configuration as environment variables: their names and texts, and the files that other programs read them from."""
