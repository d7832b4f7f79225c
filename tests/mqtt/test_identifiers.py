"""The packet identifiers of a connection."""

from aliciacfg.mqtt.identifiers import MAX_IDENTIFIER, Identifiers


def test_an_identifier_in_use_is_not_given_again():
    """MQTT 5 §2.2.1; after the largest comes 1, as 0 is none."""
    identifiers = Identifiers()
    assert [identifiers.take() for _ in range(3)] == [1, 2, 3]
    identifiers.used = {1, MAX_IDENTIFIER}
    identifiers.last = MAX_IDENTIFIER - 1
    assert identifiers.take() == 2
