"""The password file with which each service logs in to the broker by its name."""

import base64
import hashlib
from typing import Any

import pytest

from aliciacfg.errors import InvalidRequest
from aliciacfg.mqtt.broker.passwords import password_file
from aliciacfg.sources.broker_accounts import passwords_of


def test_a_password_file_shows_no_password_and_salts_each():
    """PBKDF2-HMAC-SHA512 with 12 bytes of salt and a key of 64, in Mosquitto's own form, another at each call."""
    first, second = (password_file({"b": "same", "a": "same"}, iterations=7) for _ in range(2))
    lines = [line.split(":", 1) for line in (first + second).splitlines()]
    assert [user for user, _ in lines] == ["a", "b", "a", "b"]
    assert len({rest for _, rest in lines}) == 4
    assert "same" not in first
    for _, rest in lines:
        empty, seven, iterations, salt, key = rest.split("$")
        assert (empty, seven, iterations) == ("", "7", "7")
        assert len(base64.b64decode(salt, validate=True)) == 12
        derived = hashlib.pbkdf2_hmac("sha512", b"same", base64.b64decode(salt), 7)
        assert base64.b64decode(key, validate=True) == derived


@pytest.mark.parametrize(
    ("user", "given", "words"),
    [
        ("get", "p", "'get' cannot name a caller"), ("a:b", "p", "cannot name a caller"),
        ("a\nb", "p", "cannot name a caller"), ("voice_router/admin", "p", "cannot name a caller"),
        ("bell", "", "the password of 'bell' cannot be used"), ("bell", "secret\0rest", "none of them zero"),
        ("bell", "secret" * 20_000, "1 to 65535 bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_user_or_a_password_is_refused(user: str, given: str, words: str):
    """The broker would misread it; the refusal never contains the password."""
    with pytest.raises(InvalidRequest) as refused:
        password_file({"other": "p", user: given})
    (problem,) = refused.value.problems
    assert words in problem.message
    assert "secret" not in str(refused.value)


def test_passwords_come_from_the_configurations_of_the_services():
    """Each under its own name; a service that connects as another one is reported: the broker cannot prove its name."""

    def of(username: object, password: object = "pw") -> dict[str, Any]:
        return {"mqtt_config": {"username": username, "password": password}}

    assert passwords_of({"bell": of("bell"), "door": of("door", "x"), "lamp": of("lamp", None)}) == {
        "bell": "pw",
        "door": "x",
    }
    with pytest.raises(InvalidRequest) as refused:
        passwords_of({"bell": of("door"), "door": {}, "lamp": of("lamp")})
    assert [problem.message.split(";")[0] for problem in refused.value.problems] == ["bell connects as 'door'"]
    assert {problem.pointer for problem in refused.value.problems} == {"/mqtt_config/username"}
