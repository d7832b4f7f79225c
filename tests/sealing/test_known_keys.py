"""The key of a daemon is pinned when it is first seen, and another one is refused from then on."""

import stat
from pathlib import Path

import pytest

from aliciacfg.sealing.boxes import PrivateKey
from aliciacfg.sealing.known_keys import KeyChanged, KeyPins, PinsUnusable, daemon_name, pin_file

FIRST, SECOND = PrivateKey.generate().public, PrivateKey.generate().public
HERE, THERE = "http://127.0.0.1:8026", "mqtt://broker:1883"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "aliciacfg" / "known_keys"


@pytest.fixture
def pins(path: Path) -> KeyPins:
    return KeyPins(path)


def test_the_first_key_is_pinned_and_then_known(pins: KeyPins, path: Path):
    """For each daemon its own, in a file that only its owner touches."""
    assert pins.check(HERE, FIRST) == "pinned"
    assert pins.check(THERE, SECOND) == "pinned"
    assert [pins.check(HERE, FIRST), pins.check(THERE, SECOND)] == ["known", "known"]
    assert path.read_text() == f"{HERE} {FIRST.key_id}\n{THERE} {SECOND.key_id}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_another_key_is_refused_until_it_is_accepted_by_its_id(pins: KeyPins, path: Path):
    """The message names both keys, the file, what it may mean, and what to add to the command."""
    pins.check(HERE, FIRST)
    before = path.read_text()
    with pytest.raises(KeyChanged) as refused:
        pins.check(HERE, SECOND)
    told = str(refused.value)
    for part in (HERE, FIRST.key_id, SECOND.key_id, str(path), f"--accept-new-key {SECOND.key_id}", "could read"):
        assert part in told
    assert path.read_text() == before
    assert pins.check(HERE, SECOND, accept=SECOND.key_id) == "pinned"
    assert pins.check(HERE, SECOND) == "known"
    with pytest.raises(KeyChanged):
        pins.check(HERE, FIRST)


def test_only_the_key_that_is_named_is_accepted(pins: KeyPins, path: Path):
    """At first use too: a user who knows the id does not need to trust the network even once."""
    for accept in (SECOND.key_id, "", "nonsense"):
        with pytest.raises(KeyChanged, match=FIRST.key_id):
            pins.check(HERE, FIRST, accept=accept)
    assert not path.exists()
    assert pins.check(HERE, FIRST, accept=FIRST.key_id) == "pinned"
    with pytest.raises(KeyChanged):
        pins.check(HERE, FIRST, accept=SECOND.key_id)


@pytest.mark.parametrize("line", ["one-word", "a b c", "", "\x00 \xff"])
def test_a_damaged_file_pins_nothing(pins: KeyPins, path: Path, line: str):
    """Passed over, it would let any key in again; the message names the line."""
    pins.check(HERE, FIRST)
    content = path.read_bytes() + line.encode("latin-1") + b"\n"
    path.write_bytes(content)
    with pytest.raises(PinsUnusable, match="known_keys"):
        pins.check(THERE, SECOND)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_used_is_told(tmp_path: Path):
    """A directory in its place, or none where one would have to be made."""
    with pytest.raises(PinsUnusable, match="cannot be read"):
        KeyPins(tmp_path).check(HERE, FIRST)
    (tmp_path / "file").touch()
    with pytest.raises(PinsUnusable, match="cannot be"):
        KeyPins(tmp_path / "file" / "aliciacfg" / "known_keys").check(HERE, FIRST)


@pytest.mark.parametrize(
    ("configured", "expected"),
    [("/somewhere", "/somewhere"), ("", "/home/x/.config"), ("relative", "/home/x/.config"), (None, "/home/x/.config")],
)
def test_the_file_is_in_the_users_config_directory(
    monkeypatch: pytest.MonkeyPatch, configured: str | None, expected: str
):
    """As the XDG Base Directory Specification has it."""
    monkeypatch.setenv("HOME", "/home/x")
    environ = {} if configured is None else {"XDG_CONFIG_HOME": configured}
    assert pin_file(environ) == Path(expected) / "aliciacfg" / "known_keys"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://127.0.0.1:8026", "http://127.0.0.1:8026"),
        ("http://127.0.0.1:8026/", "http://127.0.0.1:8026"),
        ("HTTP://Home.Example", "http://home.example:80"),
        ("https://user:secret@home.example/config/?q#f", "https://home.example:443/config"),
        ("http://[::1]:8026", "http://[::1]:8026"),
        ("mqtt://broker:1883", "mqtt://broker:1883"),
    ],
)
def test_one_daemon_has_one_name(url: str, name: str):
    """However its address is written, and without what is secret in it."""
    assert daemon_name(url) == name


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8026", "http://", "http://a:b", "http://a:99999", "ftp://a", "http://a/x y"]
)
def test_what_is_no_address_is_refused(url: str):
    """It would be pinned under a name that nothing else has."""
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        daemon_name(url)
