"""The file of sealing keys: made once, changed whole, refused when others can read it or it is damaged."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import KeyFileError
from aliciacfg.sealing.boxes import CannotOpen, PrivateKey
from aliciacfg.sealing.key_file import AdoptionNote, HeldKey, KeyFile, KeyRefused

SECRET = "planted-secret-61bd"
HERE: dict[str, Any] = {"service": "bell", "environment": "dev", "pointer": "/settings/pin"}
NOW = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def file(path: Path) -> KeyFile:
    return KeyFile.load_or_create(path, now=NOW)


def ids(file: KeyFile) -> list[str]:
    return [key.key_id for key in file.keys]


def test_keys_are_made_once_and_then_kept(path: Path):
    """The first start makes the file; what it sealed and digested is the same after the next."""
    first = KeyFile.load_or_create(path, now=NOW).make_keyring()
    content = path.read_bytes()
    sealed, digest = first.seal(SECRET, **HERE), first.digest(SECRET, service="s", pointer="/p")
    second = KeyFile.load_or_create(path, now=NOW + 1).make_keyring()
    assert path.read_bytes() == content
    assert second.open(sealed, **HERE) == SECRET
    assert second.digest(SECRET, service="s", pointer="/p") == digest
    assert second.public_key == first.public_key


def test_what_is_shown_of_a_key_is_public(path: Path, file: KeyFile):
    """Id, public key, which one seals and since when; nothing of a private one."""
    (key,) = file.keys
    assert (key.seals, key.created) == (True, NOW)
    assert key.key_id == file.make_keyring().current == key.public_key.key_id
    private = json.loads(path.read_bytes())["keys"][0]["private"]
    assert private not in repr(file.keys) + repr(file.held) + repr(file.make_keyring().published)


def test_a_fresh_key_seals_and_old_ones_go_on_opening(path: Path, file: KeyFile):
    """After each rotation, in the file and in memory; digests do not change with the keys."""
    boxes = [file.make_keyring().seal(SECRET, **HERE)]
    digest = file.make_keyring().digest(SECRET, service="s", pointer="/p")
    for number in (1, 2):
        fresh = file.rotate(now=NOW + number)
        assert file.make_keyring().current == fresh == ids(file)[-1]
        boxes.append(file.make_keyring().seal(SECRET, **HERE))
    again = KeyFile.load(path)
    assert again.keys == file.keys
    assert [key.seals for key in again.keys] == [False, False, True]
    assert [key.created for key in again.keys] == [NOW, NOW + 1, NOW + 2]
    assert [again.make_keyring().open(sealed, **HERE) for sealed in boxes] == [SECRET] * 3
    assert again.make_keyring().digest(SECRET, service="s", pointer="/p") == digest


def test_an_imported_key_opens_and_does_not_seal(path: Path, file: KeyFile, tmp_path: Path):
    """A key of a backup brings back what it sealed; one that is here already is not added again."""
    lost = KeyFile.create(tmp_path / "backup.json", now=NOW - 9)
    sealed = lost.make_keyring().seal(SECRET, **HERE)
    with pytest.raises(CannotOpen):
        file.make_keyring().open(sealed, **HERE)
    current = file.make_keyring().current
    assert file.add(lost.held) == [lost.make_keyring().current]
    assert file.add(lost.held) == file.add(file.held) == []
    own = PrivateKey.generate()
    assert file.add([HeldKey(own)]) == [own.public.key_id]
    again = KeyFile.load(path)
    assert again.make_keyring().open(sealed, **HERE) == SECRET
    assert again.make_keyring().current == current
    assert [(key.created, key.seals) for key in again.keys] == [(NOW, True), (NOW - 9, False), (None, False)]


def test_a_removed_key_is_gone(path: Path, file: KeyFile):
    """No byte of it is left in the file."""
    (old,) = ids(file)
    private = json.loads(path.read_bytes())["keys"][0]["private"]
    file.rotate(now=NOW)
    file.remove(old, still_sealed=False)
    assert ids(KeyFile.load(path)) == ids(file) != [old]
    assert private not in path.read_text()


def test_a_key_that_is_needed_is_not_removed(path: Path, file: KeyFile):
    """Neither the one that seals, nor one that something is sealed with, nor one that is not here."""
    old = file.make_keyring().current
    with pytest.raises(KeyRefused, match="keys rotate"):
        file.remove(old, still_sealed=False)
    file.rotate(now=NOW)
    before = path.read_bytes()
    with pytest.raises(KeyRefused, match="still sealed"):
        file.remove(old, still_sealed=True)
    with pytest.raises(KeyRefused, match=old):
        file.remove("0" * 16, still_sealed=False)
    assert path.read_bytes() == before
    assert old in ids(file)


def test_a_change_that_cannot_be_written_changes_nothing(path: Path, file: KeyFile, monkeypatch: pytest.MonkeyPatch):
    """The disk is full: the file and what is in memory are as they were, and no temporary file is left."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before, current = path.read_bytes(), file.make_keyring().current
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        for change in (lambda: file.rotate(now=NOW), lambda: file.add([HeldKey(PrivateKey.generate())])):
            with pytest.raises(KeyFileError, match="No space left"):
                change()
    assert path.read_bytes() == before
    assert (file.make_keyring().current, ids(file)) == (current, [current])
    assert list(path.parent.iterdir()) == [path]


def test_the_key_file_is_its_owners_alone(path: Path, file: KeyFile):
    """Mode 0600 from the beginning and after a change, and nothing else is left in the directory."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.rotate(now=NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_what_a_crash_left_goes_with_the_next_change(path: Path):
    """A temporary file may hold keys; it is neither used nor in the way."""
    left = path.with_name(".keys.json.x1y2z3.new")
    left.write_text("half")
    left.chmod(0o644)
    assert KeyFile.load_or_create(path, now=NOW).make_keyring().public_key
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o777])
def test_a_key_file_that_others_may_touch_is_refused(path: Path, file: KeyFile, mode: int):
    """The message says what to run; once that is done the keys are as before."""
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        KeyFile.load(path)
    path.chmod(0o600)
    assert KeyFile.load(path).keys == file.keys


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
        "private is another key's": with_key(private=base64.b64encode(b"\x07" * 32).decode()),
        "private is all zero": with_key(private=base64.b64encode(bytes(32)).decode()),
        "created is no number": with_key(created="yesterday"),
        "digest key is missing": json.dumps({"current": content["current"], "keys": content["keys"]}),
        "digest key is no base64": json.dumps({**content, "digest_key": f"{content['digest_key']}*"}),
        "invalid UTF-8": whole.replace("current", "\udcff"),
    }


KEY = PrivateKey(bytes(range(32)))
CONTENT = {
    "current": KEY.public.key_id,
    "keys": [{"key_id": KEY.public.key_id, "private": KEY.reveal()}],
    "digest_key": base64.b64encode(bytes(range(100, 132))).decode(),
}


def write(path: Path, content: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(content)


def test_a_file_without_dates_is_a_key_file(path: Path):
    """As the first release wrote it; only when its keys were made is not known."""
    write(path, json.dumps(CONTENT).encode())
    file = KeyFile.load(path)
    assert [(key.key_id, key.created, key.seals) for key in file.keys] == [(KEY.public.key_id, None, True)]


@pytest.mark.parametrize("how", damaged(CONTENT))
def test_a_damaged_key_file_is_refused_without_telling_keys(path: Path, how: str):
    """The message names the file and what to do, no part of a key is in it or behind it, and the file stays."""
    content = damaged(CONTENT)[how].encode(errors="surrogateescape")
    write(path, content)
    with pytest.raises(KeyFileError, match=r"keys\.json is not a key file") as refused:
        KeyFile.load_or_create(path, now=NOW)
    told = repr(refused.value) + str(refused.value)
    for key in (KEY.reveal(), str(CONTENT["digest_key"])):
        assert not any(key[at : at + 8] in told for at in range(len(key) - 8))
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    assert path.read_bytes() == content


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_digest_key_that_lost_bytes_is_damage_too(path: Path, length: int):
    """With an empty key digests would be plain hashes, and short passwords could be found from checksums."""
    short = base64.b64encode(bytes(length)).decode()
    write(path, json.dumps({**CONTENT, "digest_key": short}).encode())
    with pytest.raises(KeyFileError):
        KeyFile.load(path)


def test_a_key_file_that_cannot_be_read_is_refused_as_one(path: Path):
    """Such as none at all, or a directory that a container made in its place."""
    with pytest.raises(KeyFileError, match="cannot be read"):
        KeyFile.load(path)
    path.mkdir(mode=0o700)
    with pytest.raises(KeyFileError, match="cannot be read"):
        KeyFile.load_or_create(path, now=NOW)


def test_what_must_not_be_believed_of_the_database_is_kept(path: Path):
    """Over a rotation, too: whether rows have codes, what was adopted, and that there have been tokens."""
    made = KeyFile.create(path, now=1)
    assert (made.chained, made.had_tokens, made.adopted) == (False, False, [])
    note = AdoptionNote(2.5, "0a1b2c3d", 7)
    made.mark_chained(note)
    made.mark_chained(AdoptionNote(3, "", 1))
    made.note_tokens([])
    made.note_tokens(["b"])
    made.note_tokens(["a"])
    made.rotate(now=4)
    found = KeyFile.load(path)
    assert (found.chained, found.had_tokens, found.revoked, found.adopted) == (True, True, {"a", "b"}, [note])
