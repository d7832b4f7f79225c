"""Where packets begin and end, in whatever pieces they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.mqtt.broker_client import KEPT_BYTES
from aliciacfg.mqtt.packet_reader import MalformedPacket, PacketReader
from aliciacfg.mqtt.packets import variable_integer
from soak import examples

MAX_BYTES = 600


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + variable_integer(len(body)) + body


def read(reader: PacketReader, pieces: list[bytes]) -> list[tuple[bytes, int]]:
    """Return what comes of the pieces: each packet without its fixed header, and its size if it is too large."""
    found: list[tuple[bytes, int]] = []
    for piece in pieces:
        reader.feed(piece)
        while (taken := reader.take()) is not None:
            data, start, oversized = taken
            assert data[:start] == data[:1] + variable_integer(len(data) - start)
            found.append((data[:1] + data[start:], oversized))
    return found


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    ends = [*sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@examples(60)
@given(
    bodies=st.lists(st.one_of(st.binary(max_size=200), st.integers(100, 1000).map(bytes)), max_size=8),
    cuts=st.lists(st.integers(0, 2**16), max_size=12),
)
def test_packets_are_the_same_however_the_stream_is_split(bodies: list[bytes], cuts: list[int]):
    """TCP knows no packets; what is larger than the limit is told with its size (MQTT 5 §2.1.4)."""
    stream = b"".join(packet(0x30, body) for body in bodies)
    sizes = [len(packet(0x30, body)) for body in bodies]
    expected = [(b"\x30" + body, size if size > MAX_BYTES else 0) for body, size in zip(bodies, sizes, strict=True)]
    assert read(PacketReader(MAX_BYTES), pieces_of(stream, cuts)) == expected


@pytest.mark.parametrize("size", [127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_lengths_of_every_number_of_bytes_are_read(size: int):
    """MQTT 5 §1.5.5, one byte at a time where they change."""
    stream = packet(0x30, bytes(size))
    whole = [stream[index : index + 1] for index in range(6)] + [stream[6:]]
    assert read(PacketReader(2**28), whole) == [(b"\x30" + bytes(size), 0)]


@pytest.mark.parametrize("pieces", [[b"\x30\xff\xff\xff\xff"], [b"\x30\xff", b"\xff\xff", b"\xff\x01"]])
def test_a_length_of_five_bytes_is_malformed(pieces: list[bytes]):
    """MQTT 5 §1.5.5: at most four."""
    with pytest.raises(MalformedPacket):
        read(PacketReader(MAX_BYTES), pieces)


def test_of_what_is_too_large_only_the_beginning_is_kept():
    """However large it says it is: it is dropped as it comes, and what follows is read."""
    reader = PacketReader(MAX_BYTES)
    size = 3 * KEPT_BYTES
    head = b"\x32" + variable_integer(size)
    assert read(reader, [head, *[b"x" * 1000] * (size // 1000), b"x" * (size % 1000) + packet(0xD0, b"")]) == [
        (b"\x32" + b"x" * KEPT_BYTES, size + len(head)),
        (b"\xd0", 0),
    ]
