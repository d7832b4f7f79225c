"""The password file that lets each service into the broker by its name."""

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from aliciacfg.errors import InvalidRequest
from aliciacfg.mqtt.broker.passwords import password_file
from aliciacfg.sources.broker_accounts import passwords_of
from support import Broker, client


async def test_the_password_file_lets_in_who_knows_the_password(tmp_path: Path):
    """Users by their own passwords, of any script and length; no wrong one, no other user, nobody without."""
    passwords = {"bell": "p", "door": "päss:$7$ wörd\t", "lamp": "x" * 500, "siren": "pass\u2028word 🔑"}
    file = tmp_path / "passwords"
    file.write_text(password_file(passwords))
    file.chmod(0o644)
    # Mosquitto takes the last of several.
    config = f"password_file {file}\nallow_anonymous false\n"
    broker = Broker(tmp_path / "broker", config=config)
    await asyncio.to_thread(broker.start)
    try:
        for user, right in passwords.items():
            async with client(broker.port, username=user, password=right) as connected:
                await connected.publish("alicia/x")
            for wrong in (right + "x", right[:-1], "", next(p for p in passwords.values() if p != right)):
                assert not await is_let_in(broker, username=user, password=wrong)
            assert not await is_let_in(broker, username=user)
        assert not await is_let_in(broker, username="stranger", password="p")
        assert not await is_let_in(broker)
    finally:
        broker.stop()


async def is_let_in(broker: Broker, **options: Any) -> bool:
    try:
        async with client(broker.port, **options):
            return True
    except aiomqtt.MqttError:
        return False


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
        ("get", "p", "'get' cannot name a requester"), ("a:b", "p", "cannot name a requester"),
        ("a\nb", "p", "cannot name a requester"), ("voice_router/admin", "p", "cannot name a requester"),
        ("bell", "", "the password of 'bell' cannot be one"), ("bell", "secret\0rest", "none of them zero"),
        ("bell", "secret" * 20_000, "1 to 65535 bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_user_or_a_password_is_refused(user: str, given: str, words: str):
    """Before the broker reads something else in it; the refusal never holds the password."""
    with pytest.raises(InvalidRequest) as refused:
        password_file({"other": "p", user: given})
    (problem,) = refused.value.problems
    assert words in problem.message
    assert "secret" not in str(refused.value)


def test_passwords_come_from_the_configurations_of_the_services():
    """Each under its own name; a service that connects as another is told, since the broker could not prove it."""

    def of(username: object, password: object = "pw") -> dict[str, Any]:
        return {"mqtt_config": {"username": username, "password": password}}

    assert passwords_of({"bell": of("bell"), "door": of("door", "x"), "lamp": of("lamp", None)}) == {
        "bell": "pw",
        "door": "x",
    }
    with pytest.raises(InvalidRequest) as refused:
        passwords_of({"bell": of("door"), "door": {}, "lamp": of("lamp")})
    assert [problem.message.split(";")[0] for problem in refused.value.problems] == [
        "bell connects as 'door'",
        "door connects as 'None'",
    ]
    assert {problem.pointer for problem in refused.value.problems} == {"/mqtt_config/username"}
