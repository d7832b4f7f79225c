"""The warning that a request carried a secret in plain text over the bus."""

from aliciacfg.cli import formatting, notices
from aliciacfg.cli.requests import Target
from aliciacfg.documents import JsonObject, find, walk_strings
from aliciacfg.model.redaction import REDACTED

_MAX_NAMED = 3


def warn_of_plain_secrets(target: Target, service: str, sent: JsonObject, answer: JsonObject) -> None:
    """Print a warning if secrets went to a broker in plain text: every subscriber there may have read them.

    Args:
        target: Where the request went.
        service: The service.
        sent: The document or patch in the request.
        answer: The answer, which shows the configuration with secrets as ``***``.
    """
    config = answer.get("config")
    if target.http is not None or not isinstance(config, dict):
        return
    found = [
        pointer
        for pointer, text in walk_strings(sent)
        if text and text.strip() != REDACTED and find(config, pointer) == REDACTED
    ]
    if found and (plain := _unsealed(sent, found)):
        places = formatting.some_of(plain, _MAX_NAMED)
        notices.print_warning(
            f"{places}: went over the bus in plain text; next time: aliciacfg secret set {service} {plain[0]} --overlay"
        )


def _unsealed(sent: JsonObject, pointers: list[str]) -> list[str]:
    from aliciacfg.sealing.boxes import is_sealed

    values = ((pointer, find(sent, pointer)) for pointer in pointers)
    return [pointer for pointer, value in values if isinstance(value, str) and not is_sealed(value)]
