"""Standard streams that write all that they are given."""

import io
from pathlib import Path

import pytest

from aliciacfg.cli import streams


class Slow(io.FileIO):
    """A file that takes a few bytes at a time, as a terminal may."""

    def write(self, data: "memoryview | bytes", /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().write(bytes(data[:7]))


def test_nothing_is_dropped_without_a_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As under PYTHONUNBUFFERED: each line is there when it was written."""
    text = "".join(f"line {number}\n" for number in range(100))
    monkeypatch.setattr(streams, "FileIO", Slow)
    with Slow(tmp_path / "output", "w") as raw:
        unbuffered = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)  # pyright: ignore[reportArgumentType]
        unbuffered.write(text)
        assert (tmp_path / "output").read_text() == text[:7]
        streams.completed(unbuffered).write(text)
        assert (tmp_path / "output").read_text() == text[:7] + text
        unbuffered.detach()


def test_a_stream_with_a_buffer_stays():
    """Also one that was closed, which is None."""
    buffered = io.TextIOWrapper(io.BytesIO())
    assert streams.completed(buffered) is buffered
    assert streams.completed(None) is None  # pyright: ignore[reportArgumentType]
