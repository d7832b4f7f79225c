"""What the command line calls the fields of requests that the daemon's messages name."""

from typing import Final

_WORDS: Final = (
    ("Send allow_breaking if", "Add --allow-breaking if"),
    ("a write needs expected_revision. Send expected_revision", "a write needs a condition. Add --expected-revision"),
    (
        "send a token over HTTP.",
        "use HTTP with a token of `token create NAME --role admin`: `ALICIACFG_TOKEN=… aliciacfg --http URL …`.",
    ),
    ("send a token, or", "set ALICIACFG_TOKEN to a token (with --http), or"),
    ("leave refuse_near_misses out if they are meant", "add --force if they are meant"),
)


def in_command_words(message: str) -> str:
    """Return a message of the daemon in which the fields of a request have the names of the options."""
    for field, option in _WORDS:
        message = message.replace(field, option)
    return message
