"""Structured logs on standard error: one line per event, readable on a terminal and in the journal, JSON otherwise.

The only module that configures structlog and the standard library's logging, which aiohttp, asyncio and paho use.
Logging never waits for the reader of standard error: see ``line_writer``.
"""

import atexit
import io
import logging
import os
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from aliciacfg.documents import encode
from aliciacfg.process.line_writer import LineWriter
from aliciacfg.terminal_text import printable

# aiohttp.server logs a traceback for every malformed request; the adapter logs the daemon's own failures.
_NOISY = {
    "asyncio": logging.WARNING,
    "aiohttp.server": logging.CRITICAL,
    "amqtt": logging.CRITICAL,
    "transitions": logging.CRITICAL,
}

_FLUSH_SECONDS = 1.0


def configure(*, level: str, form: str) -> LineWriter:
    """Configure logging for this process, and take over its standard error.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``console``, ``json``, or ``auto`` for ``console`` if standard error is a terminal or the journal, else
            ``json``. In the journal each line begins with its priority, and the journal has the time.

    Returns:
        What writes the log. At the end of the process it has a second to write what waits.
    """
    # What no line shows, and the logging module finds out for each: thread, process, and the place of the call.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001 - as its documentation says
    terminal = sys.stderr is not None and sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed
    journal = _is_journal(os.environ.get("JOURNAL_STREAM", ""))
    console = form == "console" or (form == "auto" and (terminal or journal))
    writer = LineWriter.of(sys.stderr, on_dropped=_dropped_on_console if console else _dropped_as_json)
    timestamp = [] if console and journal else [structlog.processors.TimeStamper(fmt="iso", utc=True)]
    # What is not from the log is a traceback, a warning, or why the program ends.
    sys.stderr = writer.stream(terminal=terminal, prefix=b"<3>" if journal else b"")
    atexit.register(writer.flush, _FLUSH_SECONDS)
    shared: list[Any] = [
        structlog.processors.add_log_level,
        *timestamp,
        _without_empty,
    ]
    rendering: list[Any] = (
        [_printable, structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=_printable_traceback)]
        if console
        else [structlog.processors.format_exc_info, _render_json]
    )
    if journal:
        rendering[-1] = _with_priority(rendering[-1])
    lines = _Lines(writer)
    structlog.configure(
        processors=[*shared, *rendering],
        logger_factory=lambda *_names: lines,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    handler = logging.StreamHandler(writer.stream(terminal=terminal))
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    # paho logs every packet, payload included, at debug level.
    logging.getLogger("aliciacfg.mqtt.paho").setLevel(max(logging.WARNING, root.level))
    return writer


def configure_command() -> None:
    """Configure logging for a command that serves nothing: warnings go to standard error, among what it prints there.

    Otherwise they would go to standard output, which has the result.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _without_empty,
            _printable,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=_printable_traceback),
        ],
        logger_factory=lambda *_names: structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
    )


def _is_journal(journal_stream: str) -> bool:
    """Return whether standard error is the stream to systemd's journal that ``JOURNAL_STREAM`` names (systemd.exec(5)).

    A child of a service inherits the variable, but may write elsewhere.
    """
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


# Of syslog(3).
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def _with_priority(render: Callable[[WrappedLogger, str, EventDict], str]) -> Processor:
    """Put the priority before every line, as sd-daemon(3) describes it, so that ``journalctl -p warning`` finds it."""

    def rendered(logger: WrappedLogger, method: str, event: EventDict) -> str:
        prefix = f"<{_PRIORITIES.get(event.get('level', method), 6)}>"
        return prefix + render(logger, method, event).replace("\n", f"\n{prefix}")

    return rendered


class _Lines:
    """Where structlog's lines go: to a writer.

    By way of the logging module a line took 31 µs of the processor instead of 12, and a refused write has one or two.
    """

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def write(self, line: str) -> None:
        """Have a line written."""
        self._writer.write(f"{line}\n".encode(errors="backslashreplace"))

    debug = info = warning = error = critical = write


def _dropped_as_json(count: int) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return encode({"event": "log_dropped", "lines": count, "level": "warning", "timestamp": now}).decode() + "\n"


def _dropped_on_console(count: int) -> str:
    return f"log_dropped lines={count}: nobody read standard error, or it could not be written\n"


def _without_empty(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # In place: every event has a dictionary of its own.
    for key in [key for key, value in event.items() if value is None or value == []]:
        del event[key]
    return event


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape what others wrote: topics, paths and names could otherwise control the terminal or make up lines.

    ``repr`` escapes the characters of a list's items; an exception is rendered by ``_printable_traceback``.
    """
    return {
        printable(key): value if key in _RENDERED_LATER else printable(value if isinstance(value, str) else repr(value))
        for key, value in event.items()
    }


_RENDERED_LATER = frozenset({"exc_info", "stack_info"})


def _printable_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    """Write a traceback, indented: its exceptions may quote what others wrote, also what looks like another event."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write(textwrap.indent(printable(text.getvalue(), keep="\n"), "    "))


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    for key, value in event.items():
        if type(value) not in _JSON_TYPES and not _plain(value):
            event[key] = repr(value)
    # As the last one, where people look for it.
    event["event"] = event.pop("event")
    try:
        return encode(event).decode()
    except (ValueError, OverflowError, TypeError):
        # A text that is no Unicode, or a number beyond those of JSON: the caller goes on.
        ascii_only = {
            key: value if isinstance(value, str) and value.isascii() else ascii(value) for key, value in event.items()
        }
        return encode(ascii_only).decode()


_JSON_TYPES = frozenset({str, int, float, bool})


def _plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_plain(item) for item in cast("list[object]", value))
    return value is None or isinstance(value, str | int | float | bool)
