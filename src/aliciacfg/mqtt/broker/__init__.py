"""The broker beside the daemon: its access list, its password file, and the broker of ``serve --dev``."""
