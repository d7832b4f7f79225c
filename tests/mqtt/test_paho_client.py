"""What is done past the libraries: properties encoded and decoded by hand."""

import pytest
from paho.mqtt import properties
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from aliciacfg.mqtt import paho_client
from aliciacfg.mqtt.address import BrokerAddress
from aliciacfg.mqtt.messages import Protocol, Reply
from aliciacfg.mqtt.paho_client import PahoClient


async def sent(protocol: Protocol, reply: Reply, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What paho is told to publish for an answer."""
    address = BrokerAddress("127.0.0.1", 1)
    client = PahoClient(address, protocol, context=None, client_id=None, will=None, timeout_seconds=1)
    seen: dict[str, object] = {}

    def publish(topic: str, payload: bytes, qos: int, *, retain: bool, properties: object = None) -> None:
        seen.update(topic=topic, payload=payload, qos=qos, retain=retain, properties=properties)

    monkeypatch.setattr(client._paho, "publish", publish)
    client.send_reply(reply)
    return seen


@pytest.mark.parametrize("success", [True, False])
@pytest.mark.parametrize("correlation", [None, b"", b"\x00\xff", b"c" * 300, b"c" * 65535])
async def test_the_properties_of_an_answer_are_those_that_paho_reads(
    success: bool, correlation: bytes | None, monkeypatch: pytest.MonkeyPatch
):
    """Content type, status and Correlation Data, of whatever length; never retained."""
    seen = await sent("5", Reply("alicia/reply/x", b"{}", success, 1, correlation), monkeypatch)
    packed = seen.pop("properties")
    assert isinstance(packed, paho_client._EncodedProperties)
    decoded = Properties(PacketTypes.PUBLISH)
    _, size = decoded.unpack(packed.pack())
    assert size == len(packed.pack())
    assert vars(decoded).get("ContentType") == "application/json"
    assert vars(decoded).get("UserProperty") == [("status", "success" if success else "error")]
    assert vars(decoded).get("CorrelationData") == correlation
    assert seen == {"topic": "alicia/reply/x", "payload": b"{}", "qos": 1, "retain": False}


async def test_an_answer_on_3_1_1_has_no_properties(monkeypatch: pytest.MonkeyPatch):
    """That version of MQTT has none."""
    seen = await sent("3.1.1", Reply("alicia/reply/x", b"{}", True, 0, b"c"), monkeypatch)
    assert seen == {"topic": "alicia/reply/x", "payload": b"{}", "qos": 0, "retain": False, "properties": None}


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
