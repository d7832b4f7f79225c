"""The line that says what takes long."""

import io
import sys
import threading

import pytest

from aliciacfg.cli import progress


class Terminal(io.StringIO):
    """Standard error that is a terminal, and tells when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        self.written.set()
        return super().write(text)


def test_what_takes_long_is_said_and_gone_afterwards(monkeypatch: pytest.MonkeyPatch):
    """After a while; the line is taken back at the end, also after an error."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0)

    def fail() -> None:
        with progress.shown("verifying the store"):
            assert terminal.written.wait(20)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert "\r\x1b[Kverifying the store: 0 s" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_what_is_done_may_change(monkeypatch: pytest.MonkeyPatch):
    """The line says what it is then."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0)
    steps = iter(["copying: 1 of 2 rows"])
    with progress.shown(lambda: next(steps)):
        assert terminal.written.wait(20)
    assert "copying: 1 of 2 rows: 0 s" in terminal.getvalue()


def test_what_is_quick_is_not_said(monkeypatch: pytest.MonkeyPatch):
    """Neither is anything where nobody looks."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    with progress.shown("listing"):
        pass
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0)
    before = threading.active_count()
    with progress.shown("listing"):
        assert threading.active_count() == before
    assert terminal.getvalue() == ""
