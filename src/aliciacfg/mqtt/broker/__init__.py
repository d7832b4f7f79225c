"""The broker beside the daemon: its files, its access list, and the one for development."""
