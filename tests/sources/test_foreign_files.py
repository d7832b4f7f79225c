"""Files of other programs: their values, and what a person should look at."""

import json
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import SourceError
from aliciacfg.sources.foreign_files import ForeignFile, Form, form_of, read_foreign


def read(text: str, form: Form) -> ForeignFile:
    return read_foreign(text, form, file="theirs")


def settings(text: str, form: Form) -> Any:
    return read(text, form).patch["settings"]


def left(found: ForeignFile) -> dict[str, str]:
    """The remarks on what is not taken, by place."""
    return {remark.pointer: remark.message for remark in found.remarks if not remark.taken}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        (".env", "env"), (".env.local", "env"), ("bot.env", "env"), ("a.JSON", "json"), ("configuration.yaml", "yaml"),
        ("a.yml", "yaml"), ("mosquitto.conf", "ini"), ("a.ini", "ini"), ("a.properties", "ini"), ("a.txt", None),
        ("env", None),
    ],
)  # fmt: skip
def test_the_name_tells_the_form(name: str, form: Form | None):
    """Or does not."""
    assert form_of(Path(name)) == form


def test_variables_get_the_types_that_read_back_as_the_same_text():
    """What would come out otherwise stays a string, and so does a password of digits."""
    text = (
        "A=5\nB=-7\nC=1.5\nD=true\nE=false\n"
        "F=007\nG=1.50\nH=True\nI=1e5\nJ=12345678901234567890\nK=-0\nL=\nM='a b'\nDB_PASSWORD=1234\nexport PIN=0000\n"
    )
    assert settings(text, "env") == {
        "a": 5, "b": -7, "c": 1.5, "d": True, "e": False,
        "f": "007", "g": "1.50", "h": "True", "i": "1e5", "j": "12345678901234567890", "k": "-0", "l": "", "m": "a b",
        "db_password": "1234", "pin": "0000",
    }  # fmt: skip
    assert read(text, "env").names["/settings/db_password"] == "DB_PASSWORD"


def test_sections_become_objects():
    """Lines before the first one belong to none; keys keep their case, quotes are not part of a value."""
    text = '# c\nName = "a b"\n[mqtt]\nhost: broker\nport=1883\n; c\npath = /a;b#c\n'
    assert settings(text, "ini") == {"Name": "a b", "mqtt": {"host": "broker", "port": 1883, "path": "/a;b#c"}}


def test_tags_of_other_programs_are_told_and_not_taken():
    """Wherever they stand: only that program knows what is meant. Names of values and files are shown, values not."""
    found = read(
        "a: !secret wifi_password\nb: {c: !include x/y.yaml, d: 1}\ne: '!secret.yaml network_key'\n"
        "f: !lambda |-\n  return 17;\ng: !Passw0rd\n",
        "yaml",
    )
    assert found.patch == {"settings": {"b": {"d": 1}}}
    messages = left(found)
    assert "!secret wifi_password," in messages["/settings/a"]
    assert "!include x/y.yaml," in messages["/settings/b/c"]
    assert "!secret.yaml network_key," in messages["/settings/e"]
    assert "is !lambda," in messages["/settings/f"]
    assert "return 17" not in str(messages)


def test_what_no_configuration_holds_is_told():
    """Null, what stands for a secret in answers or is sealed elsewhere, and an empty password."""
    found = read('{"a": null, "b": "***", "c": {"password": ""}, "d": 1, "e": "sealed:v1:0123:AAAA"}', "json")
    assert found.patch == {"settings": {"c": {}, "d": 1}}
    assert left(found).keys() == {"/settings/a", "/settings/b", "/settings/c/password", "/settings/e"}


def test_an_address_with_a_password_is_told_without_it():
    """And so are references to variables, and numbers that look like secrets."""
    found = read("URL=mqtts://me:geheim@h:8883/x\nPLAIN=http://h:80/a@b\nHOME_DIR=${HOME}/x\nAPI_KEY=5\n", "env")
    assert found.passwords == ["/settings/url"]
    remarks = {remark.pointer: remark.message for remark in found.remarks}
    assert remarks.keys() == {"/settings/url", "/settings/home_dir", "/settings/api_key"}
    assert "geheim" not in str(remarks)


def test_a_whole_configuration_keeps_its_members():
    """As `get` prints it; what the daemon fills in is left out."""
    document = (
        '{"service_name": "a", "environment": "dev", "version": "1.0.0", "limits": {"x": 1}, "settings": {"y": 2}}'
    )
    found = read(document, "json")
    assert found.patch == {"limits": {"x": 1}, "settings": {"y": 2}}
    assert found.names == {"/limits/x": "limits.x", "/settings/y": "settings.y"}


@pytest.mark.parametrize(
    ("text", "form", "words"),
    [
        ("[1]", "json", "found array"), ("{", "json", "not JSON"), ("", "yaml", "holds no value"),
        ("# c\n", "env", "holds no value"), ("a: [\n", "yaml", "theirs:"), ("a=1\na=2\n", "ini", "theirs:2: "),
        ("[s]\nnonsense\n", "ini", "theirs:2: "), ("A=1\n-x\n", "env", "theirs:2: "),
        ("A=1\na=2\n", "env", "capitals"), ("a: !x [1]\n", "yaml", "tags"),
    ],
)  # fmt: skip
def test_what_is_not_of_its_form_is_refused_with_its_line(text: str, form: Form, words: str):
    """And without a value."""
    with pytest.raises(SourceError) as refused:
        read(text, form)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("http://u:pw@h/", True), ("see mqtt://:pw@h:1883 there", True), ("http://ha.lan:8123?token=zzz", True),
        ("https://h/a?b=1&api_key=k", True), ("https://h/#a?access-token=k", True), ("https://u@h/", False),
        ("http://h:8123/?tokens=1", False), ("http://h/?token=", False), ("token=zzz", False),
    ],
)  # fmt: skip
def test_addresses_that_hold_a_password_are_told(text: str, holds: bool):
    """Before the host, or in the query, of any name that says so."""
    found = read(json.dumps({"address": text}), "json")
    assert (found.passwords == ["/settings/address"], len(found.remarks) == 1) == (holds, holds)
