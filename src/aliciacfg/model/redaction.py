"""What stands for a secret where it must not be shown."""

from collections.abc import Iterable

REDACTED = "***"


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text with ``***`` in place of each secret that it quotes."""
    # The longest first: one secret may be a part of another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return text
