"""What stands for a secret where it must not be shown."""

import json
from collections.abc import Iterable

REDACTED = "***"
SEALED_PREFIX = "sealed:v1:"
"""With it a secret begins that is sealed to a key."""


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text with ``***`` in place of each secret that it quotes, as it is or with its line breaks escaped."""
    forms = {form for secret in secrets for form in _forms(secret)}
    # The longest first: one secret may be a part of another.
    for form in sorted(filter(None, forms), key=len, reverse=True):
        text = text.replace(form, REDACTED)
    return text


def _forms(text: str) -> tuple[str, ...]:
    """Return a text as it is, and as Python and JSON write it between quotes."""
    return text, repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]
