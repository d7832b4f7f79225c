"""Lines are written by a thread of their own, dropped when nobody reads them, and counted."""

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aliciacfg.process import line_writer
from aliciacfg.process.line_writer import LineWriter

MEBIBYTE = 1024 * 1024


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def read_all(reader: int, until: bytes) -> bytes:
    """Read until a text comes."""
    found = b""
    while until not in found:
        found += os.read(reader, MEBIBYTE)
    return found


def test_texts_arrive_in_order(pipe: tuple[int, int]):
    """Whatever was written before is there after a flush."""
    reader, descriptor = pipe
    writer = LineWriter(descriptor)
    for number in range(100):
        writer.write(b"%d\n" % number)
    assert writer.flush(10)
    assert os.read(reader, MEBIBYTE).split() == [str(number).encode() for number in range(100)]
    os.close(reader)


def test_texts_of_one_moment_are_written_at_once(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch):
    """The thread is woken for the first of them, and not for each."""
    moment = threading.Event()
    monkeypatch.setattr(line_writer.time, "sleep", lambda _: moment.wait(10))
    reader, descriptor = pipe
    writer = LineWriter(descriptor)
    for number in range(100):
        writer.write(b"%d\n" % number)
    moment.set()
    assert len(os.read(reader, MEBIBYTE).split()) == 100
    assert writer.flush(10)
    os.close(reader)


def test_a_pipe_that_nobody_reads_holds_up_nobody(pipe: tuple[int, int]):
    """What does not fit is dropped; a reader who comes back learns how much, and what follows arrives."""
    reader, descriptor = pipe
    writer = LineWriter(descriptor, on_dropped=lambda count: f"dropped {count}\n")
    line = b"x" * 1023 + b"\n"
    for _ in range(4096):
        writer.write(line)
    assert not writer.flush(0.01)
    found = b""
    # The pipe takes some while others are written already, so they may be told in several parts.
    while found.count(line) + sum(int(count) for count in re.findall(rb"dropped (\d+)\n", found)) < 4096:
        found += os.read(reader, MEBIBYTE)
    assert 1024 <= found.count(line) < 1200
    writer.write(b"again\n")
    assert b"again\n" in read_all(reader, b"again\n")
    os.close(reader)


def test_a_reader_who_is_gone_raises_nothing(pipe: tuple[int, int]):
    """The texts are lost, and nothing else happens."""
    reader, descriptor = pipe
    os.close(reader)
    writer = LineWriter(descriptor)
    for _ in range(3):
        writer.write(b"lost\n")
        assert writer.flush(10)


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]):
    """Another process may have made it so; nothing is lost by that."""
    reader, descriptor = pipe
    os.set_blocking(descriptor, False)
    writer = LineWriter(descriptor)
    for _ in range(512):
        writer.write(b"x" * 1023 + b"\n")
    writer.write(b"end\n")
    assert len(read_all(reader, b"end\n")) == 512 * 1024 + 4
    os.close(reader)


def test_no_stream_drops_everything():
    """A descriptor that was closed before the start may belong to a file by now."""
    writer = LineWriter.of(None)
    writer.write(b"lost\n")
    assert writer.flush(0)


def test_what_stands_in_for_standard_error_writes_there(pipe: tuple[int, int]):
    """Print goes the same way, with text that cannot be encoded escaped."""
    reader, descriptor = pipe
    writer = LineWriter(descriptor)
    stream = writer.stream(terminal=False)
    print("one", "\udc80", file=stream, flush=True)
    assert writer.flush(10)
    assert os.read(reader, 100) == b"one \\udc80\n"
    assert (stream.isatty(), stream.writable()) == (False, True)
    os.close(reader)


def test_a_second_writer_takes_over_from_the_first(tmp_path: Path):
    """Commands that look into a stopped home several times configure the log each time; no message is lost."""
    with (tmp_path / "log").open("w") as file:
        first = LineWriter.of(file)
        second = LineWriter.of(first.stream(terminal=False))
        second.stream(terminal=False).write("told\n")
        second.flush(10.0)
    assert (tmp_path / "log").read_text() == "told\n"
