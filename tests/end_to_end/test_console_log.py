"""The lines of the log: what others wrote cannot control a terminal, and JSON has all that is known of an event."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from aliciacfg import logs
writer = logs.configure(level="info", form={form!r})
log = structlog.get_logger("x")
evil = "\\x1b[2J\\x9b31m\\u202e\\r\\nforged=line\\x07"
log.info("refused", topic=evil, items=[evil], table={{evil: evil}}, **{{evil: 1}})
try:
    raise ValueError(evil)
except ValueError:
    log.exception(evil)
import logging
logging.getLogger("other").warning("%s", evil)
log.warning("last", text="line one\\nline two\\twith tab", price="5 €", number=3)
writer.flush(5.0)
"""


def logged(form: str) -> str:
    """What the daemon's log shows of these events."""
    program = PROGRAM.format(form=form)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=30)
    return done.stderr.decode()


@pytest.mark.parametrize("form", ["console", "json"])
def test_what_others_wrote_is_escaped(form: str):
    """Escape sequences, carriage returns, bells, C1 controls and reordering marks, in values, keys and exceptions."""
    text = logged(form)
    shown = text.replace("\n", "")
    assert shown.isprintable() if form == "console" else "\x1b" not in shown
    assert not [line for line in text.splitlines() if line.startswith("forged")]
    assert "5 €" in text
    assert "line one" in text


LEVELS = """
import logging
import structlog
from aliciacfg import logs
writer = logs.configure(level="warning", form="json")
log = structlog.get_logger("x")
log.info("quiet")
log.warning("told", empty=None, none=[], listed=[1, "a"], odd={"a": 1})
log.warning("no Unicode", text="\\udc80", number=2**70)
log.bind(more=1).error("bound")
try:
    raise ValueError("broken")
except ValueError:
    log.exception("failed")
logging.getLogger("other").info("quiet too")
logging.getLogger("other").warning("%s too", "told")
writer.flush(5.0)
"""


def test_a_line_of_json_has_what_is_known_of_its_event():
    """Of the level of the settings or above, from the daemon as from libraries, in the order in which they came."""
    done = subprocess.run([sys.executable, "-c", LEVELS], capture_output=True, check=True, timeout=30)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(line.pop("timestamp").endswith("Z") for line in lines)
    told, no_unicode, bound, failed, other = lines
    assert told == {"event": "told", "level": "warning", "listed": [1, "a"], "odd": "{'a': 1}"}
    assert no_unicode == {"event": "no Unicode", "level": "warning", "text": r"'\udc80'", "number": str(2**70)}
    assert bound == {"event": "bound", "level": "error", "more": 1}
    assert "ValueError: broken" in failed.pop("exception")
    assert failed == {"event": "failed", "level": "error"}
    assert other == {"event": "told too", "level": "warning", "logger": "other"}
