"""What is done past the libraries: properties decoded by hand."""

import pytest
from paho.mqtt import properties
from paho.mqtt.exception import MalformedPacket

from aliciacfg.mqtt import paho_client

assert paho_client  # replaces the function


@pytest.mark.parametrize("text", ["", "plain", "\ufeff", "é\ufeffü", "\x00", "x" * 65535])
def test_every_string_of_a_property_is_read(text: str):
    """Paho would end the connection at U+FEFF and U+0000; how many bytes it took is told too."""
    encoded = text.encode()
    buffer = len(encoded).to_bytes(2, "big") + encoded + b"rest"
    assert properties.readUTF(buffer, len(buffer)) == (text, len(encoded) + 2)


@pytest.mark.parametrize(("buffer", "limit"), [(b"", 0), (b"\x00", 1), (b"\x00\x05abc", 5), (b"\x00\x05abcde", 6)])
def test_a_string_that_is_longer_than_its_packet_is_malformed(buffer: bytes, limit: int):
    """MQTT 5 §1.5.4: the connection may end there."""
    with pytest.raises(MalformedPacket):
        properties.readUTF(buffer, limit)


def test_a_string_that_is_no_utf8_is_read_all_the_same():
    """A broker has to refuse it; if one does not, the message is answered as any odd one."""
    assert properties.readUTF(b"\x00\x02\xff\xfe", 4) == ("\ufffd\ufffd", 4)
