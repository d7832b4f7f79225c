"""What the command line calls the fields of requests that the daemon's messages name."""

from typing import Final

_OVER_HTTP: Final = "HTTP with a token of `token create NAME --role {}`: `ALICIACFG_TOKEN=… aliciacfg --http URL …`."
_RULE: Final = ".{} in environments/access.yaml."
_WORDS: Final = (
    ("Send allow_breaking if", "Add --allow-breaking if"),
    ("a write needs expected_revision. Send expected_revision", "a write needs a condition. Add --expected-revision"),
    ("send a token over HTTP.", f"use {_OVER_HTTP.format('admin')}"),
    (_RULE.format("read"), f"{_RULE.format('read')} Or use {_OVER_HTTP.format('reader')}"),
    (_RULE.format("write"), f"{_RULE.format('write')} Or use {_OVER_HTTP.format('writer')}"),
    ("over HTTP send a token,", "with --http set ALICIACFG_TOKEN to a token,"),
    ("over MQTT end the topic with a name of your own.", "over MQTT say it with --as NAME."),
    ("leave refuse_near_misses out if they are meant", "add --force if they are meant"),
)


def in_command_words(message: str) -> str:
    """Return a message of the daemon in which the fields of a request have the names of the options."""
    for field, option in _WORDS:
        message = message.replace(field, option)
    return message
