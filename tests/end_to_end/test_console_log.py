"""The log on a terminal: what others wrote cannot control it."""

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
