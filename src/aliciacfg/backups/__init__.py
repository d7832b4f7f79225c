"""Backup and restore of a home, and its export as plain files."""
