"""Whether a port is free, and who holds it."""

import os
import socket
from collections.abc import Iterator

import pytest

from aliciacfg.diagnosis.ports import look_at_http_port


@pytest.fixture
def held() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_port_that_is_taken_is_told_with_who_holds_it(held: int):
    """By name and process id."""
    found = look_at_http_port("127.0.0.1", held)
    assert found.level == "fail"
    assert f"(pid {os.getpid()})" in found.message
    assert "ALICIACFG_HTTP_PORT" in found.remedy


def test_a_free_port_is_well():
    """Port 0 always is."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    assert look_at_http_port("127.0.0.1", port).level == "ok"
    assert look_at_http_port("127.0.0.1", 0).level == "ok"


def test_an_address_of_another_machine_is_told():
    """By the setting that names it."""
    found = look_at_http_port("192.0.2.1", 8026)
    assert found.level == "fail"
    assert found.remedy == "set ALICIACFG_HTTP_HOST"
