"""Codes with a key that is used again and again are those of the standard library."""

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.sealing.keyed_hash import KeyedHash


@given(st.binary(max_size=200), st.lists(st.binary(max_size=5000), min_size=1, max_size=5))
def test_codes_are_those_of_hmac(key: bytes, messages: list[bytes]):
    """With keys of any length, and however many messages came before."""
    keyed = KeyedHash(key)
    assert [keyed.digest(message) for message in messages] == [
        hmac.digest(key, message, hashlib.sha256) for message in messages
    ]
