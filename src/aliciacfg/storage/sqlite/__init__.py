"""The SQLite backend; nothing outside of this package knows about SQLite."""
