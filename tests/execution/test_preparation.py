"""What is refused before a command starts, or an old one is stopped."""

import pytest

from aliciacfg.documents import JsonObject
from aliciacfg.execution.preparation import Choices, Unusable, Values, prepare

NAMES = {"/pin": "PIN", "/level": "LEVEL"}.get


def prepared(config: JsonObject, *, inherited: dict[bytes, bytes] | None = None, **choices: bool):
    return prepare(
        ["true"], Values(config=config, name_of=NAMES), inherited=inherited or {}, choices=Choices(**choices)
    )


def test_a_secret_that_cannot_be_read_is_refused_by_name():
    """Unless it may be left out, and then a note says so."""
    config: JsonObject = {"pin": "***", "level": "x"}
    with pytest.raises(Unusable, match=r"PIN \(/pin\)") as refused:
        prepared(config)
    assert refused.value.code == "forbidden"
    made = prepared(config, allow_redacted=True)
    assert made.environment == {b"LEVEL": b"x"}
    assert "PIN is left out: /pin is a secret that cannot be read here" in made.notes


def test_a_secret_that_is_set_already_keeps_its_value():
    """As the password that a container got with its environment."""
    made = prepared({"pin": "***", "level": "x"}, inherited={b"PIN": b"1234", b"LEVEL": b"old"})
    assert made.environment == {b"PIN": b"1234", b"LEVEL": b"x"}
    assert made.notes == ("PIN keeps the value that it has: /pin is a secret that cannot be read here",)


def test_what_no_variable_can_hold_is_refused_without_its_value():
    """A NUL, and more than the system takes."""
    for value, code in (("hush\0", "validation_failed"), ("hush" * 100_000, "too_large")):
        with pytest.raises(Unusable, match="LEVEL") as refused:
            prepared({"level": value})
        assert refused.value.code == code
        assert "hush" not in str(refused.value)


def test_a_prepared_start_shows_no_value():
    """Neither in a traceback nor in a log."""
    assert "hush" not in repr(prepared({"level": "hush"}))
