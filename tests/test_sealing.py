"""Secrets at rest: boxes that open in their own place only, keyed digests, and the file of keys."""

import base64
import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.public import PublicKey, SealedBox

from aliciacfg import sealing
from aliciacfg.errors import KeyFileError
from aliciacfg.sealing import CannotOpen, Keyring

SECRET = "planted-secret-61bd"
HERE: dict[str, Any] = {"service": "bell", "environment": "dev", "pointer": "/settings/pin"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def keyring(path: Path) -> Keyring:
    return Keyring.load_or_create(path)


def box(keyring: Keyring, plain: object) -> str:
    """A sealed value as anybody makes one who has the public key."""
    data = plain if isinstance(plain, bytes) else json.dumps(plain).encode()
    sealed = SealedBox(PublicKey(keyring.public_key)).encrypt(data)
    return f"sealed:v1:{keyring.current}:{base64.urlsafe_b64encode(sealed).rstrip(b'=').decode()}"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_what_is_sealed_opens_again_in_its_place(keyring: Keyring, value: str):
    """Any text at all, the empty one too, and the box does not show it."""
    sealed = keyring.seal(value, **HERE)
    assert sealing.is_sealed(sealed)
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
    """Not the JSON object agreed on, or with a member nobody knows, which might have been meant to bind it."""
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


def test_what_a_lost_key_sealed_says_which_key(keyring: Keyring, tmp_path: Path):
    """The daemon cannot open it and names the key id that would have to be brought back."""
    other = Keyring.load_or_create(tmp_path / "other.json")
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
    assert sealing.is_sealed(value) is expected


def test_old_keys_go_on_opening(path: Path):
    """One key seals, all of them open."""
    old = Keyring.load_or_create(path)
    stored = json.loads(path.read_bytes())
    fresh = base64.b64encode(b"\x07" * 32).decode()
    path.write_text(json.dumps({**stored, "keys": [*stored["keys"], {"key_id": "0" * 16, "private": fresh}]}))
    sealed = old.seal(SECRET, **HERE)
    path.write_text(path.read_text().replace(f'"current": "{old.current}"', f'"current": "{"0" * 16}"'))
    both = Keyring.load_or_create(path)
    assert both.current == "0" * 16
    assert both.open(sealed, **HERE) == SECRET
    assert both.seal(SECRET, **HERE).startswith(f"sealed:v1:{'0' * 16}:")
    assert both.digest("a", service="s", pointer="/p") == old.digest("a", service="s", pointer="/p")


def test_keys_are_made_once_and_then_kept(path: Path):
    """The first start makes the file; what it sealed and digested is the same after the next."""
    first = Keyring.load_or_create(path)
    content = path.read_bytes()
    sealed, digest = first.seal(SECRET, **HERE), first.digest(SECRET, service="s", pointer="/p")
    second = Keyring.load_or_create(path)
    assert path.read_bytes() == content
    assert second.open(sealed, **HERE) == SECRET
    assert second.digest(SECRET, service="s", pointer="/p") == digest
    assert second.public_key == first.public_key


def test_the_key_file_is_its_owners_alone(path: Path, keyring: Keyring):
    """Mode 0600 from the beginning, and nothing else is left in the directory."""
    assert keyring.current
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_creation_does_not_hinder_the_next(path: Path):
    """What a crash left beside the file is neither used nor in the way."""
    left = path.with_name(".keys.json.new")
    left.write_text("half")
    left.chmod(0o644)
    assert Keyring.load_or_create(path).public_key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not left.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o777])
def test_a_key_file_that_others_may_touch_is_refused(path: Path, keyring: Keyring, mode: int):
    """The message says what to run; once that is done the keys are as before."""
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        Keyring.load_or_create(path)
    path.chmod(0o600)
    assert Keyring.load_or_create(path).public_key == keyring.public_key


def damaged(content: dict[str, Any]) -> dict[str, str]:
    """Ways in which a key file breaks, by name."""
    key = content["keys"][0]
    private = key["private"]

    def with_key(**changes: object) -> str:
        return json.dumps({**content, "keys": [{**key, **changes}]})

    whole = json.dumps(content)
    return {
        "empty": "",
        "truncated": whole[:-20],
        "inside the private key": whole[: whole.index(private) + 30],
        "not JSON": f"{private}\n",
        "another document": json.dumps([private]),
        "no keys": json.dumps({**content, "keys": []}),
        "current is not there": json.dumps({**content, "current": "0" * 16}),
        "private is no string": with_key(private=[private]),
        "private is no base64": with_key(private=f"!{private}"),
        "private is too short": with_key(private=base64.b64encode(base64.b64decode(private)[:31]).decode()),
        "private is too long": with_key(private=base64.b64encode(base64.b64decode(private) * 2).decode()),
        "private is not ASCII": with_key(private=f"é{private}"),
        "digest key is missing": json.dumps({"current": content["current"], "keys": content["keys"]}),
        "digest key is no base64": json.dumps({**content, "digest_key": f"{content['digest_key']}*"}),
        "invalid UTF-8": whole.replace("current", "\udcff"),
    }


CONTENT = {
    "current": "0123456789abcdef",
    "keys": [{"key_id": "0123456789abcdef", "private": base64.b64encode(bytes(range(32))).decode()}],
    "digest_key": base64.b64encode(bytes(range(100, 132))).decode(),
}


@pytest.mark.parametrize("how", damaged(CONTENT))
def test_a_damaged_key_file_is_refused_without_telling_keys(path: Path, how: str):
    """The message names the file and what to do, no part of a key is in it or behind it, and the file stays."""
    content = damaged(CONTENT)[how].encode(errors="surrogateescape")
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"keys\.json is not a key file") as refused:
        Keyring.load_or_create(path)
    told = repr(refused.value) + str(refused.value)
    for key in (CONTENT["keys"][0]["private"], CONTENT["digest_key"]):
        assert not any(key[at : at + 8] in told for at in range(len(key) - 8))
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    assert path.read_bytes() == content


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_digest_key_that_lost_bytes_is_damage_too(path: Path, length: int):
    """With an empty key digests would be plain hashes, and short passwords could be found from checksums."""
    short = base64.b64encode(bytes(length)).decode()
    path.write_text(json.dumps({**CONTENT, "digest_key": short}))
    path.chmod(0o600)
    with pytest.raises(KeyFileError):
        Keyring.load_or_create(path)


def test_a_key_file_that_cannot_be_read_is_refused_as_one(path: Path):
    """Such as a directory that a container made in its place."""
    path.mkdir(mode=0o700)
    with pytest.raises(KeyFileError):
        Keyring.load_or_create(path)


def test_digests_tell_equal_secrets_of_one_place_only(keyring: Keyring, tmp_path: Path):
    """The same for the same value, service and pointer; another as soon as one differs, or the key does."""
    digest = keyring.digest(SECRET, service="bell", pointer="/a")
    assert keyring.digest(SECRET, service="bell", pointer="/a") == digest
    others = {
        keyring.digest(SECRET + "x", service="bell", pointer="/a"),
        keyring.digest(SECRET, service="bel", pointer="l/a"),
        keyring.digest(SECRET, service="other", pointer="/a"),
        keyring.digest(SECRET, service="bell", pointer="/b"),
        keyring.digest("", service="bell", pointer=f"/a{SECRET}"),
        Keyring.load_or_create(tmp_path / "other.json").digest(SECRET, service="bell", pointer="/a"),
        hashlib.sha256(SECRET.encode()).hexdigest(),
    }
    assert len(others) == 7
    assert digest not in others


def test_what_is_published_is_the_public_key_and_its_name(keyring: Keyring, path: Path):
    """32 bytes in standard base64, named by the first 16 hex digits of their SHA-256; nothing private."""
    public = base64.b64decode(keyring.published["public_key"], validate=True)
    assert public == keyring.public_key
    assert len(public) == 32
    assert keyring.published["key_id"] == keyring.current == hashlib.sha256(public).hexdigest()[:16]
    stored = json.loads(path.read_bytes())
    private = stored["keys"][0]["private"]
    assert private not in keyring.published.values()
    assert keyring.published.keys() == {"key_id", "public_key"}
