"""From a message to typed settings: secrets opened, what does not open, what does not fit."""

import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from aliciacfg.client.current import Current, Trust
from aliciacfg.client.errors import Rejected
from aliciacfg.client.keys import KeyFile
from aliciacfg.client.messages import Update
from aliciacfg.client.values import Reader
from aliciacfg.sealing.boxes import PrivateKey, PublicKey, seal_for

SECRET = "correct horse battery"


class Bell(msgspec.Struct):
    volume: int
    token: str = ""


def update(settings: dict[str, Any], **members: Any) -> Update:
    return Update(
        service="bell",
        environment="dev",
        version="1.0.0",
        revision=4,
        epoch=1,
        sequence=4,
        checksum="c",
        config={"settings": settings, **members},
    )


def sealed(key: PublicKey, pointer: str = "/settings/token", service: str = "bell") -> str:
    return seal_for(key, SECRET, service=service, environment="dev", pointer=pointer)


def reader(kind: Any, path: Path | None = None, *, require_secrets: bool = False) -> Reader[Any]:
    keys = KeyFile(path)
    keys.load()
    return Reader(kind, keys, Trust(), require_secrets=require_secrets)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "bell.key"
    path.touch(0o600)
    return path


def read(found: Reader[Any], what: Update) -> Current[Any]:
    return found.read(what, source="live")


def test_secrets_are_opened_in_the_settings_and_in_the_document(key_file: Path):
    """Neither the record's text nor the text of a rejection shows one."""
    key = PrivateKey.generate()
    key_file.write_text(f"# of the bell\n{key.reveal()}\n")
    what = update({"volume": 3, "token": sealed(key.public)})
    current = read(reader(Bell, key_file), what)
    assert (current.settings, current.redacted) == (Bell(3, SECRET), {})
    assert current.config["settings"]["token"] == SECRET
    assert SECRET not in repr(current)

    class Strict(msgspec.Struct):
        token: Literal["yes", "no"]

    class Quoting(msgspec.Struct):
        token: str

        def __post_init__(self) -> None:
            raise ValueError(f"{self.token} is too long")

    for kind in (Strict, Quoting):
        with pytest.raises(Rejected) as caught:
            read(reader(kind, key_file), what)
        assert SECRET not in str(caught.value)
        assert "settings" in str(caught.value)
        assert caught.value.revision == 4
        # Nor does what a traceback would show.
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_key_file_that_changes_is_read_again(key_file: Path):
    """A second key is added, then the first one goes."""
    first, second = PrivateKey.generate(), PrivateKey.generate()
    key_file.write_text(first.reveal())
    found = reader(Bell, key_file)
    assert read(found, update({"volume": 1, "token": sealed(first.public)})).settings.token == SECRET
    key_file.write_text(f"{first.reveal()}\n{second.reveal()}\n")
    assert read(found, update({"volume": 1, "token": sealed(second.public)})).settings.token == SECRET
    key_file.chmod(0o644)
    third = read(found, update({"volume": 1, "token": sealed(PrivateKey.generate().public)}))
    assert third.settings.token == "***"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("***", "aliciacfg recipient new bell"),
        ("sealed:v1:0123456789abcdef:AAAA", "is not in"),
        ("sealed:v1:xyz", "not a well-formed sealed value"),
    ],
)
def test_a_secret_that_does_not_open_is_named(key_file: Path, text: str, reason: str):
    """It stands as ``***``, with the reason by its place; a program may require all of them."""
    key_file.write_text(PrivateKey.generate().reveal())
    what = update({"volume": 3, "token": text})
    current = read(reader(Bell, key_file), what)
    assert current.settings == Bell(3, "***")
    assert reason in current.redacted["/settings/token"]
    with pytest.raises(Rejected, match=r"secrets of bell are not readable here: /settings/token") as caught:
        read(reader(Bell, key_file, require_secrets=True), what)
    assert reason in str(caught.value)


def test_a_box_of_another_place_or_service_is_not_opened(key_file: Path):
    """Nobody can move a secret to where it would be shown."""
    key = PrivateKey.generate()
    key_file.write_text(key.reveal())
    for box in (sealed(key.public, "/settings/other"), sealed(key.public, service="lamp")):
        current = read(reader(Bell, key_file), update({"volume": 3, "token": box}))
        assert current.settings.token == "***"
        assert "is bound to another" in current.redacted["/settings/token"]


def test_without_a_key_the_reason_says_where_one_goes(tmp_path: Path):
    """The variable, or the file that is not there."""
    what = update({"volume": 3, "token": sealed(PrivateKey.generate().public)})
    assert "set ALICIACFG_KEY_FILE" in read(reader(Bell), what).redacted["/settings/token"]
    missing = tmp_path / "none.key"
    assert f"no file {missing}" in read(reader(Bell, missing), what).redacted["/settings/token"]


def test_a_value_that_does_not_fit_is_named_by_its_place():
    """A redacted secret that may be the cause is named too."""
    with pytest.raises(Rejected, match=r"do not fit Bell: Expected `int`, got `str` - at `settings\.volume`$"):
        read(reader(Bell), update({"volume": "loud"}, mqtt_config={"password": "***"}))
    with pytest.raises(Rejected, match=r"got `str` .*; secrets of bell are not readable here: /settings/token"):
        read(reader(Bell), update({"volume": "loud", "token": "***"}))
    with pytest.raises(Rejected, match="missing required field `volume`"):
        read(reader(Bell), update({}))


@pytest.mark.parametrize("kind", [dict, dict[str, int], Any])
def test_any_type_of_msgspec_will_do(kind: Any):
    """A dictionary takes everything, as it stands in the document."""
    current = read(reader(kind), update({"volume": 3}))
    assert current.settings == {"volume": 3}
    assert json.dumps(current.config)
