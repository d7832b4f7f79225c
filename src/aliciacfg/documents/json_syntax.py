"""Where and why a text is not JSON, with the offset in the bytes that were sent.

The decoder of msgspec counts in the string that it reads at that moment, or behind the fault, and takes half a
surrogate pair for a text that was cut off.
"""

import json
import re
from typing import NamedTuple, Never

_BOM = b"\xef\xbb\xbf"
# One escape sequence after another, so that the backslashes of `\\ud800` are not taken for the escape `\ud800`.
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_HIGH, _LOW = range(0xD800, 0xDC00), range(0xDC00, 0xE000)
_ENCODING = "Send one JSON value encoded as UTF-8."
_WHOLE = (
    r"Write the character itself in UTF-8, or both halves: \ud83d\ude00. A text that is cut "
    "between the halves has to be cut elsewhere."
)


class _NotFinite(ValueError):
    """NaN or infinity, which Python reads and JSON does not have."""


class Fault(NamedTuple):
    """What is wrong with bytes that are not JSON; no text quotes them.

    Attributes:
        what: What is wrong, to be followed by the place.
        at: The offset in bytes from 0; None if it is not known.
        remedy: What a client has to do.
    """

    what: str
    at: int | None
    remedy: str


def explain(data: bytes) -> str:
    """Return what is wrong with bytes that are not JSON (RFC 8259), at which byte, and what to do.

    Offsets count from 0. The text does not quote the bytes.
    """
    what, at, remedy = _fault(data)
    return f"{what}{'' if at is None else f' at byte {at}'}. {remedy}"


def explain_file(text: str) -> tuple[int | None, str]:
    """Return the line, counted from 1, and what is wrong there with the text of a file or an argument, without quoting.

    The line is None if it is not known.
    """
    data = text.encode(errors="surrogatepass")
    what, at, _ = _fault(data)
    if at is None:
        return None, what
    before = data[:at].decode(errors="replace")
    column = len(before) - before.rfind("\n")
    behind = "" if data[at:].strip() else ", where it ends"
    return before.count("\n") + 1, f"{what} (column {column}{behind})"


def _fault(data: bytes) -> Fault:
    if data.startswith(_BOM):
        return Fault("is not JSON: a byte order mark begins", 0, "Send the value without it.")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return Fault(f"is not UTF-8: byte {error.start} is invalid", None, _ENCODING)
    half = _half_pair(data)
    try:
        json.loads(text, parse_constant=_refuse)
    except _NotFinite:
        return Fault("is not JSON: it has NaN or infinity", None, "Send a number, or leave the member out.")
    except json.JSONDecodeError as error:
        place = len(text[: error.pos].encode())
        if half is None or place < half:
            what = error.msg.removesuffix(" at").removesuffix(": ").removesuffix(" starting")
            return Fault(f"is not JSON: {what[:1].lower()}{what[1:]}", place, _ENCODING)
    except (RecursionError, ValueError):
        # Too deep, or a number of thousands of digits.
        pass
    if half is not None:
        return Fault("is not JSON: half of a surrogate pair", half, _WHOLE)
    return Fault("is not JSON: a number is beyond the range of a double", None, _ENCODING)


def _half_pair(data: bytes) -> int | None:
    """Return the offset of the first escape that is half of a surrogate pair; None if there is none."""
    high: re.Match[bytes] | None = None
    for found in _ESCAPE.finditer(data):
        code = int(found[1], 16) if found[1] else -1
        if high is not None:
            if code in _LOW and found.start() == high.end():
                high = None
                continue
            return high.start()
        if code in _LOW:
            return found.start()
        if code in _HIGH:
            high = found
    return None if high is None else high.start()


def _refuse(_name: str) -> Never:
    raise _NotFinite
