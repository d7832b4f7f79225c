"""The text of the generated access list."""

import pytest

from access_rules import EXAMPLE, dense_rules, load
from aliciacfg.access.rules import without_rules
from aliciacfg.errors import InvalidRequest
from aliciacfg.mqtt.broker.access_list import HomeAssistant, access_list
from repository import SERVICES


@pytest.mark.parametrize("name", ["", "a b", "a\ntopic readwrite #", "get", "+", "#"])
def test_no_name_writes_lines_of_its_own(name: str):
    """The daemon's user name comes from a setting; the others were checked where they were read."""
    with pytest.raises(InvalidRequest, match="MQTT_USERNAME"):
        access_list(load(EXAMPLE), daemon=name)


def test_the_list_is_made_of_lines_that_mosquitto_understands():
    """One space between words, no comment behind a topic, each line once for a user, every user once."""
    text = access_list(load(dense_rules()))
    assert text.endswith("\n")
    sections: dict[str, list[str]] = {"": []}
    user = ""
    for line in text.splitlines():
        if line.startswith("user "):
            user = line.removeprefix("user ")
            assert user not in sections
            sections[user] = []
        elif line and not line.startswith("#"):
            kind, right, topic = line.split(" ")
            assert right in {"read", "write", "readwrite", "deny"}
            assert topic.isprintable()
            assert kind == "topic" or (kind == "pattern" and (right == "deny" or topic in {"#", "$SYS/#"}))
            sections[user].append(line)
    assert sections.pop("") == []
    assert sections.keys() == {*SERVICES, "operator", "dashboard", "visitor", "onlooker"}
    for lines in sections.values():
        assert len(lines) == len(set(lines))


def test_the_list_closes_also_where_everything_is_open():
    """Without rules and tokens it gives every service its own, as an empty file does."""
    assert access_list(without_rules(SERVICES, tokens=False)) == access_list(load(""))


def test_a_daemon_of_another_name_is_the_only_one_that_writes():
    """Where MQTT_USERNAME is not config_service, a service of that name is a service like others."""
    text = access_list(load(EXAMPLE), daemon="settings_daemon")
    section = {part.partition("\n")[0]: part for part in text.split("user ")}
    assert "topic write alicia/config/update/+" in section["settings_daemon"]
    assert text.count("topic write alicia/config/update/+") == 1
    assert "topic read alicia/config/#" not in section["config_service"]


def account(user: str = "ha") -> HomeAssistant:
    return HomeAssistant(user, "home_assistant", "homeassistant")


def test_home_assistants_account_gets_exactly_its_topics():
    """It may send no request, though the rules name it as a caller; without it nothing is said of its topics."""
    rules = load("services: {voice_router: {write: {allowed_services: [home_assistant]}}}\nusers: [home_assistant]\n")
    text = access_list(rules, home_assistant=account())
    section = text.partition("user ha\n")[2].partition("\n\n")[0].splitlines()
    assert section == [
        "topic write alicia/ha/set/#",
        "topic read homeassistant/device/aliciacfg/+/config",
        "topic read alicia/ha/state/+",
        "topic read alicia/ha/availability",
        "topic read alicia/ha/event/+",
    ]
    assert "user home_assistant" not in text
    assert {"pattern deny alicia/ha/#", "pattern deny homeassistant/device/aliciacfg/#"} <= set(text.splitlines())
    daemon = text.partition("user config_service\n")[2].partition("\n\n")[0]
    assert "topic read alicia/ha/set/#" in daemon
    assert "alicia/ha" not in access_list(rules)


def test_home_assistant_may_be_an_administrator():
    """It then sees everything, and its account still sends commands alone."""
    rules = load("admins: [home_assistant, operator]\n")
    text = access_list(rules, home_assistant=account("home_assistant"))
    section = text.partition("user home_assistant\n")[2].partition("\n\n")[0]
    assert "alicia/config" not in section
    assert text.count("user home_assistant\n") == 1


@pytest.mark.parametrize("user", ["voice_router", "operator", "config_service", "a b", "#"])
def test_home_assistant_has_an_account_of_its_own(user: str):
    """That of a service or an administrator would get other rights, or lose them."""
    with pytest.raises(InvalidRequest, match="ALICIACFG_HOME_ASSISTANT_USER"):
        access_list(load(EXAMPLE), home_assistant=account(user))
