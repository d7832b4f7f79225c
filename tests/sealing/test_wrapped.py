"""Content of any length that only the daemons of a home open."""

import pytest

from aliciacfg.sealing.boxes import CannotOpen, Keyring, PrivateKey
from aliciacfg.sealing.wrapped import Wrapper

PURPOSE = "/texts"


def keyring(*keys: PrivateKey) -> Keyring:
    return Keyring(current=keys[-1].public.key_id, keys=keys, digest_key=bytes(range(32)))


def test_only_the_same_home_opens_it_for_the_same_purpose():
    """Changed content does not open either, nor what is no wrapped content at all."""
    home = keyring(PrivateKey.generate())
    wrapped = Wrapper(home, PURPOSE).wrap(b"text" * 1000)
    assert Wrapper(home, PURPOSE).unwrap(wrapped) == b"text" * 1000
    assert Wrapper(home, "/other").unwrap(wrapped) is None
    assert Wrapper(keyring(PrivateKey.generate()), PURPOSE).unwrap(wrapped) is None
    sealed, _, box = wrapped.partition(" ")
    other = Wrapper(home, PURPOSE).wrap(b"text").partition(" ")[2]
    for found in (f"{sealed} {other}", f"{sealed} {box[:-8]}AAAAAAA=", f"{sealed} ?", sealed, box, "", " ", "ä ö"):
        assert Wrapper(home, PURPOSE).unwrap(found) is None


def test_keys_that_were_replaced_open_nothing_that_was_wrapped_later():
    """As with everything that is sealed: the key that never changes does not open it alone."""
    old, new = PrivateKey.generate(), PrivateKey.generate()
    before, rotated = keyring(old), keyring(old, new)
    wrapper = Wrapper(before, PURPOSE)
    early = wrapper.wrap(b"early")
    assert wrapper.is_current(early)
    before.replace_with(rotated)
    assert not wrapper.is_current(early)
    assert wrapper.unwrap(early) == b"early"
    late = wrapper.wrap(b"late")
    assert wrapper.is_current(late)
    assert Wrapper(keyring(old), PURPOSE).unwrap(late) is None
    assert not Wrapper(rotated, PURPOSE).is_current("?")


def test_the_key_of_wrapped_content_opens_nowhere_else():
    """Whoever may read a service's secrets does not get it by writing it into a configuration."""
    home = keyring(PrivateKey.generate())
    sealed = Wrapper(home, PURPOSE).wrap(b"text").partition(" ")[0]
    for service in ("bell", "*"):
        with pytest.raises(CannotOpen):
            home.open(sealed, service=service, environment="dev", pointer=PURPOSE, shared=True)
