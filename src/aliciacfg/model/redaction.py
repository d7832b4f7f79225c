"""What stands for a secret where it must not be shown."""

REDACTED = "***"
