"""Secrets at rest: boxes that open in their own place only, keyed digests, and the file of keys."""

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nacl import public
from nacl.public import SealedBox

from aliciacfg.sealing.boxes import (
    CannotOpen,
    Keyring,
    PrivateKey,
    PublicKey,
    UnusableKey,
    is_sealed,
    seal_for,
    sealed_with,
)
from repository import ROOT
from soak import examples

SECRET = "planted-secret-61bd"
HERE: dict[str, Any] = {"service": "bell", "environment": "dev", "pointer": "/settings/pin"}

DATA = ROOT / "tests" / "data" / "libsodium"


def made(*, old: tuple[PrivateKey, ...] = (), digest_key: bytes = b"d" * 32) -> Keyring:
    """A keyring with a fresh key that seals."""
    key = PrivateKey.generate()
    return Keyring(current=key.public.key_id, keys=[*old, key], digest_key=digest_key)


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    return made()


def box(keyring: Keyring, plain: object) -> str:
    """A sealed value as anybody makes one who has the public key."""
    data = plain if isinstance(plain, bytes) else json.dumps(plain).encode()
    sealed = SealedBox(public.PublicKey(keyring.public_key.raw)).encrypt(data)
    return f"sealed:v1:{keyring.current}:{base64.urlsafe_b64encode(sealed).rstrip(b'=').decode()}"


@settings(deadline=None)
@given(value=st.text())
def test_what_is_sealed_opens_again_in_its_place(keyring: Keyring, value: str):
    """Any text at all, the empty one too, and the box does not show it."""
    sealed = keyring.seal(value, **HERE)
    assert is_sealed(sealed)
    assert keyring.open(sealed, **HERE) == value


def test_no_two_boxes_of_one_value_are_the_same(keyring: Keyring):
    """Equal secrets cannot be told by their boxes."""
    first, second = keyring.seal(SECRET, **HERE), keyring.seal(SECRET, **HERE)
    assert first != second
    assert SECRET not in first
    assert base64.b64encode(SECRET.encode()).decode().rstrip("=") not in first


@pytest.mark.parametrize(
    ("elsewhere", "word"),
    [
        ({"service": "other"}, "service"),
        ({"service": "*"}, "service"),
        ({"environment": "prod"}, "environment"),
        ({"pointer": "/settings/other"}, "place"),
        ({"pointer": ""}, "place"),
        ({"service": "other", "shared": True}, "service"),
    ],
)
def test_a_box_opens_nowhere_but_where_it_is_bound_to(keyring: Keyring, elsewhere: dict[str, Any], word: str):
    """Ciphertext cannot be moved to be read there; the refusal says what does not fit, not what is inside."""
    sealed = keyring.seal(SECRET, **HERE)
    with pytest.raises(CannotOpen, match=f"bound to another {word}") as refused:
        keyring.open(sealed, **{**HERE, **elsewhere})
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "plain",
    [
        {"service": "bell", "value": SECRET},
        {"service": "bell", "value": SECRET, "environment": "dev"},
        {"service": "bell", "value": SECRET, "pointer": "/settings/pin"},
        {"service": "bell", "value": SECRET, "environment": None, "pointer": None},
    ],
)
def test_whoever_seals_may_leave_environment_and_pointer_open(keyring: Keyring, plain: object):
    """A box of an operator's own making, bound to the service alone, opens in it."""
    assert keyring.open(box(keyring, plain), **HERE) == SECRET


def test_a_box_for_every_service_opens_in_shared_defaults_only(keyring: Keyring):
    """The service "*" counts where a file speaks to all services, and is still bound to environment and pointer."""
    everyone = {"service": "*", "value": SECRET, "environment": "dev", "pointer": "/settings/pin"}
    sealed = box(keyring, everyone)
    assert keyring.open(sealed, **HERE, shared=True) == SECRET
    with pytest.raises(CannotOpen, match="another service"):
        keyring.open(sealed, **HERE)
    for elsewhere in ({"environment": "prod"}, {"pointer": "/other"}):
        with pytest.raises(CannotOpen):
            keyring.open(sealed, **{**HERE, **elsewhere}, shared=True)
    assert keyring.open(keyring.seal(SECRET, **HERE), **HERE, shared=True) == SECRET


@pytest.mark.parametrize(
    "plain",
    [
        SECRET.encode(), b"", b"[]", b"{}", {"service": "bell"}, {"value": SECRET}, {"service": "bell", "value": 5},
        {"service": None, "value": SECRET}, {"service": "bell", "value": SECRET, "environment": 1},
        {"service": "bell", "value": SECRET, "extra": 1}, b'{"service":"bell","value":"\xff"}', b"[" * 3000,
        {"service": "bell", "value": SECRET, "Pointer": "/settings/pin"},
    ],
)  # fmt: skip
def test_a_box_whose_content_is_something_else_is_damaged(keyring: Keyring, plain: object):
    """Not the JSON object agreed on, or with an unknown member, which might have been meant to bind it."""
    with pytest.raises(CannotOpen, match="damaged") as refused:
        keyring.open(box(keyring, plain), **HERE)
    assert SECRET not in str(refused.value)


def test_any_changed_byte_is_noticed(keyring: Keyring):
    """Each byte of the box is covered, and so is its length."""
    prefix, _, text = keyring.seal(SECRET, **HERE).rpartition(":")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    tampered = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(len(raw))]
    for data in (*tampered, raw[:-1], raw[1:], raw + b"\0", b"\0" * len(raw), b"\0"):
        with pytest.raises(CannotOpen, match="damaged"):
            keyring.open(f"{prefix}:{base64.urlsafe_b64encode(data).rstrip(b'=').decode()}", **HERE)


@pytest.mark.parametrize(
    "form",
    [
        "sealed:v1:", "sealed:v1:{id}", "sealed:v1:{id}:", "sealed:v1::{box}", "sealed:v2:{id}:{box}", "{box}",
        "sealed:v1:{id}:{box}=", "sealed:v1:{id}:{box}==", "sealed:v1:{id}:{box}\n", " sealed:v1:{id}:{box}",
        "sealed:v1:{id}:+{box}", "sealed:v1:{id}:/{box}", "sealed:v1:{id}:{box}!", "sealed:v1:{id}:a b{box}",
        "sealed:v1:{id}:{box}:{box}", "sealed:v1:{id}0:{box}", "SEALED:v1:{id}:{box}", "sealed:v1:{id}:\u00e9{box}",
    ],
)  # fmt: skip
def test_what_is_not_well_formed_is_refused_by_its_form(keyring: Keyring, form: str):
    """No padding, no foreign characters, nothing before or after: Python's decoder would drop them silently."""
    _, _, key_id, text = keyring.seal(SECRET, **HERE).split(":")
    with pytest.raises(CannotOpen, match="well-formed"):
        keyring.open(form.format(id=key_id, box=text), **HERE)


@pytest.mark.parametrize("text", ["A", "AAAAA", "AA", "A" * 64])
def test_base64_that_holds_no_box_is_damaged(keyring: Keyring, text: str):
    """Impossible lengths and boxes shorter than their own key end as the same refusal."""
    with pytest.raises(CannotOpen, match="damaged"):
        keyring.open(f"sealed:v1:{keyring.current}:{text}", **HERE)


def test_what_a_lost_key_sealed_says_which_key(keyring: Keyring):
    """The daemon cannot open it and names the key id that would have to be brought back."""
    other = made()
    sealed = keyring.seal(SECRET, **HERE)
    with pytest.raises(CannotOpen, match=keyring.current):
        other.open(sealed, **HERE)
    # The key id is a name only: under the name of a key that is here, the box does not open either.
    with pytest.raises(CannotOpen, match="damaged"):
        other.open(sealed.replace(keyring.current, other.current), **HERE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("sealed:v1:", True), ("sealed:v1:nonsense", True), ("sealed:v2:x", False), ("sealed", False), ("", False)],
)
def test_what_claims_to_be_sealed_is_taken_at_its_word(value: str, expected: bool):
    """A malformed box must not pass as an ordinary string."""
    assert is_sealed(value) is expected


def test_digests_tell_equal_secrets_of_one_place_only(keyring: Keyring):
    """The same for the same value, service and pointer; another as soon as one differs, or the key does."""
    digest = keyring.digest(SECRET, service="bell", pointer="/a")
    assert keyring.digest(SECRET, service="bell", pointer="/a") == digest
    others = {
        keyring.digest(SECRET + "x", service="bell", pointer="/a"),
        keyring.digest(SECRET, service="bel", pointer="l/a"),
        keyring.digest(SECRET, service="other", pointer="/a"),
        keyring.digest(SECRET, service="bell", pointer="/b"),
        keyring.digest("", service="bell", pointer=f"/a{SECRET}"),
        made(digest_key=b"e" * 32).digest(SECRET, service="bell", pointer="/a"),
        hashlib.sha256(SECRET.encode()).hexdigest(),
    }
    assert len(others) == 7
    assert digest not in others


def test_what_is_published_is_the_public_key_and_its_name(keyring: Keyring):
    """32 bytes in standard base64, named by the first 16 hex digits of their SHA-256; read back by those who seal."""
    raw = base64.b64decode(keyring.published["public_key"], validate=True)
    assert raw == keyring.public_key.raw
    assert len(raw) == 32
    assert keyring.published["key_id"] == keyring.current == hashlib.sha256(raw).hexdigest()[:16]
    assert keyring.published.keys() == {"key_id", "public_key"}
    assert PublicKey.from_published(keyring.published) == keyring.public_key


@pytest.mark.parametrize(
    "change",
    [{"key_id": "0" * 16}, {"key_id": 5}, {"public_key": "AAAA"}, {"public_key": None}, {"public_key": "*"}],
)
def test_a_published_key_whose_name_is_not_its_own_is_refused(keyring: Keyring, change: dict[str, Any]):
    """The id is what people compare and pin; it has to be that of the very key that is sealed for."""
    with pytest.raises(UnusableKey):
        PublicKey.from_published({**keyring.published, **change})
    for content in (None, [], "text", {"key_id": keyring.current}):
        with pytest.raises(UnusableKey, match="as a daemon publishes it"):
            PublicKey.from_published(content)


def test_old_keys_go_on_opening():
    """One key seals, all of them open, and digests do not change with the keys."""
    first = PrivateKey.generate()
    old = Keyring(current=first.public.key_id, keys=[first], digest_key=b"d" * 32)
    both = made(old=(first,))
    sealed = old.seal(SECRET, **HERE)
    assert both.current != old.current
    assert both.open(sealed, **HERE) == SECRET
    assert sealed_with(both.seal(SECRET, **HERE)) == both.current
    assert both.digest("a", service="s", pointer="/p") == old.digest("a", service="s", pointer="/p")


places = st.fixed_dictionaries(
    {
        "service": st.sampled_from(["bell", "lamp"]),
        "environment": st.sampled_from(["dev", "prod"]),
        "pointer": st.sampled_from(["/a", "/a/0", "/a~1b", ""]),
    }
)


@examples(60)
@given(bound=places, loose=st.sets(st.sampled_from(["environment", "pointer"])), found=places)
@example(bound=HERE, loose={"environment", "pointer"}, found=HERE)
def test_a_box_opens_exactly_where_its_bindings_say(
    keyring: Keyring, bound: dict[str, str], loose: set[str], found: dict[str, Any]
):
    """Wherever a box is carried, it opens if every binding that it has is that place's, and only then."""
    binding: dict[str, Any] = {name: value for name, value in bound.items() if name not in loose}
    sealed = seal_for(keyring.public_key, SECRET, **binding)
    if all(found[name] == value for name, value in binding.items()):
        assert keyring.open(sealed, **found) == SECRET
    else:
        with pytest.raises(CannotOpen, match="bound to another"):
            keyring.open(sealed, **found)


def test_what_is_sealed_to_a_service_only_that_service_opens(keyring: Keyring):
    """Not the daemon, not another recipient, and nowhere but in its place."""
    recipient, other = PrivateKey.generate(), PrivateKey.generate()
    sealed = keyring.seal_to_recipient(recipient.public, SECRET, **HERE, revision=1)
    assert recipient.open(sealed, **HERE) == SECRET
    assert sealed_with(sealed) == recipient.public.key_id
    assert sealed == keyring.seal_to_recipient(recipient.public, SECRET, **HERE, revision=1)
    assert sealed != keyring.seal_to_recipient(recipient.public, SECRET, **HERE, revision=2)
    with pytest.raises(CannotOpen, match=recipient.public.key_id):
        keyring.open(sealed, **HERE)
    with pytest.raises(CannotOpen, match=recipient.public.key_id):
        other.open(sealed, **HERE)
    for elsewhere in ({"service": "lamp"}, {"environment": "prod"}, {"pointer": "/b"}):
        with pytest.raises(CannotOpen, match="bound to another"):
            recipient.open(sealed, **{**HERE, **elsewhere})


# The x-coordinates of all points of order 1, 2, 4 and 8 on the curve and its twist, and their other encodings.
LOW_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
]


@pytest.mark.parametrize("high_bit", [0, 0x80])
@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_public_key_of_low_order_is_refused_when_it_is_set(point: str, high_bit: int):
    """Sealing for one would fail, or be readable by all: it is refused before anything depends on it."""
    raw = bytes.fromhex(point)
    raw = raw[:-1] + bytes([raw[-1] | high_bit])
    with pytest.raises(UnusableKey, match="low order"):
        PublicKey(raw)
    with pytest.raises(UnusableKey, match="low order"):
        PublicKey.parse(base64.b64encode(raw).decode())


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "é" * 43, "A" * 42 + "\n" + "A", "A" * 100])
def test_what_is_no_key_is_refused_without_quoting_it(text: str):
    """Neither as a public nor as a private one; the text may have been a private key with a typing mistake."""
    for parse in (PublicKey.parse, PrivateKey.parse):
        with pytest.raises(UnusableKey, match="expected an X25519") as refused:
            parse(text)
        assert not text or text not in str(refused.value)
        assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_keys_are_read_in_every_base64_that_is_around():
    """Standard and URL-safe, padded or not, with a line's end behind it: as this and other programs write them."""
    raw = bytes([0xFB, 0xFF, 0xBF, *range(29)])
    standard, safe = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    assert standard != safe
    for text in (standard, safe, standard.rstrip("="), safe.rstrip("="), f" {standard}\n"):
        assert PrivateKey.parse(text).reveal() == standard
        assert PublicKey.parse(text).raw == raw


def test_an_all_zero_private_key_is_refused():
    """It works as any other, and everybody knows it."""
    with pytest.raises(UnusableKey, match="zeros"):
        PrivateKey(bytes(32))


def test_a_private_key_does_not_show_in_its_text():
    """Keys end in logs by way of their repr."""
    key = PrivateKey.generate()
    assert key.reveal() not in repr(key)
    assert key.reveal() not in str(vars(made(old=(key,))))


def test_what_javascript_sealed_once_opens_for_ever():
    """A recorded value: the format does not drift, which a new round trip could not tell."""
    recorded = json.loads((DATA / "recorded.json").read_text())
    key = PrivateKey.parse(recorded["private_key"])
    assert str(key.public) == recorded["public_key"]
    assert key.public == PublicKey.from_published(recorded)
    assert key.open(recorded["sealed"], **recorded["bound"]) == recorded["value"]
