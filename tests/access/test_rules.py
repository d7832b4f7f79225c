"""Who may do what: the rules' file, and the one decision."""

from itertools import product

import pytest

from access_rules import EXAMPLE
from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import METRICS_NEED, Access, Decision, Need, Role, without_rules
from aliciacfg.access.rules_file import load
from aliciacfg.errors import Forbidden, Unauthorized
from aliciacfg.operations.table import BY_NAME, OPERATIONS, Operation
from repository import SERVICES

HOME = ("bell", "door", "lamp", "siren")
RULES = """\
groups:
  alarm: [bell, siren]
services:
  door:
    read: {allowed_services: [dashboard], allowed_groups: [alarm]}
  lamp:
    read: {allowed_services: [door]}
    write: {allowed_services: [siren, lamp]}
admins: [operator]
users: [dashboard, visitor]
"""
NEEDS: dict[str, Need] = {**{name: row.needs for name, row in BY_NAME.items()}, "metrics": METRICS_NEED}


@pytest.fixture
def rules() -> Access:
    return load(RULES, services=HOME)


def decide(rules: Access, caller: Caller, operation: str, service: str | None = None) -> Decision:
    return rules.decide(caller, NEEDS[operation], service, operation=operation)


def check(rules: Access, caller: Caller, operation: str, service: str | None = None) -> Decision:
    return rules.check(caller, NEEDS[operation], service, operation=operation)


def allows(rules: Access, caller: Caller, operation: str, service: str | None = None) -> bool:
    return rules.allows(caller, NEEDS[operation], service)


def proven(name: str, role: Role = "service") -> Caller:
    return Caller(name, "test", proven=True, role=role)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_what_changes_something_is_not_for_readers(operation: Operation):
    """A row that writes needs more than reading, and one about a service is decided for that service."""
    need = NEEDS[operation.name]
    if need != "admin":
        assert operation.writes == (need in {"write", "write_any", "own"})
    if operation.target == "service":
        assert need in {"read", "write", "own"}
    elif operation.target == "environment":
        assert need == "admin"


READABLE = {
    "bell": {"bell", "door"},
    "door": {"door", "lamp"},
    "lamp": {"lamp"},
    "siren": {"siren", "door", "lamp"},
    "dashboard": {"door"},
    "visitor": set[str](),
    "stranger": set[str](),
    "operator": set(HOME),
}
WRITABLE = {"siren": {"lamp"}, "lamp": {"lamp"}, "operator": set(HOME)}


@pytest.mark.parametrize("name", READABLE)
def test_rules_say_who_reads_and_who_writes(rules: Access, name: str):
    """Own, allowed by name, allowed by group, writers read; nothing else, for every operation on a service."""
    for operation, need in NEEDS.items():
        for service in HOME:
            expected = {
                "nothing": True,
                "read": service in READABLE[name],
                "read_any": service in READABLE[name],
                "write": service in WRITABLE.get(name, ()),
                "write_any": service in WRITABLE.get(name, ()),
                "own": name in {service, "operator"},
                "metrics": name == "operator",
                "admin": name == "operator",
            }[need]
            assert allows(rules, proven(name), operation, service) == expected, (operation, service)


@pytest.mark.parametrize("name", READABLE)
def test_operations_about_everything_are_decided_as_a_whole(rules: Access, name: str):
    """Listing needs read access to a service, a batch write access to one, and the rest an administrator."""
    for operation, need in NEEDS.items():
        expected = {
            "nothing": True,
            "read_any": bool(READABLE[name]),
            "write_any": name in WRITABLE,
        }.get(need, name == "operator")
        assert allows(rules, proven(name), operation) == expected, operation


@pytest.mark.parametrize(
    ("role", "readable", "writable", "administers"),
    [
        ("service", {"lamp"}, {"lamp"}, False),
        ("metrics", {"lamp"}, {"lamp"}, False),
        ("reader", set(HOME), {"lamp"}, False),
        ("writer", set(HOME), set(HOME), False),
        ("admin", set(HOME), set(HOME), True),
    ],
)
def test_a_tokens_role_adds_to_the_rules(
    rules: Access, role: Role, readable: set[str], writable: set[str], administers: bool
):
    """The role counts for everything, the name for what the rules give it."""
    caller = proven("lamp", role)
    assert {service for service in HOME if allows(rules, caller, "get", service)} == readable
    assert {service for service in HOME if allows(rules, caller, "set", service)} == writable
    assert allows(rules, caller, "environments") == (role not in {"service", "metrics"})
    assert allows(rules, caller, "metrics") == (role != "service")
    assert allows(rules, caller, "reload") == rules.administers(caller) == administers
    assert allows(rules, caller, "recipient", "lamp")
    assert allows(rules, caller, "recipient", "door") == administers


def test_a_service_without_a_rule_is_its_own_alone(rules: Access):
    """One that came after the files, by a write or a registration, reads itself; others do not."""
    assert allows(rules, proven("guest"), "get", "guest")
    assert not allows(rules, proven("lamp"), "get", "guest")
    assert not allows(rules, proven("guest"), "set", "guest")
    assert allows(rules, proven("operator"), "set", "guest")


def test_nobody_gets_more_by_proving_less():
    """Whatever is asked: anonymous at most what a claim gets, a claim at most what a proof gets, whatever its role."""
    rules = load(EXAMPLE, services=SERVICES)
    for name, operation, service in product([*rules.names, "stranger"], NEEDS, [*SERVICES, None]):
        anonymous = decide(rules, Caller(None, "test", role="admin"), operation, service)
        claimed = decide(rules, Caller(name, "test", role="admin"), operation, service)
        known = decide(rules, proven(name), operation, service)
        assert anonymous.allowed <= claimed.allowed <= known.allowed
        assert claimed.allowed == (known.allowed and NEEDS[operation] in {"nothing", "read", "read_any", "metrics"})
        assert not anonymous.secrets
        assert not claimed.secrets
        assert known.secrets == (known.allowed and name == service and NEEDS[operation] != "nothing")


def test_what_a_caller_lists_is_what_it_may_read(rules: Access):
    """For every name and role, proven or not: all, or exactly the services that it may read one by one."""
    callers = [Caller(None, "test"), *(Caller(name, "test") for name in [*READABLE, "guest"])]
    callers += [proven(name, role) for name in [*READABLE, "guest"] for role in ("service", "reader", "admin")]
    for found, caller in product([rules, without_rules(HOME, tokens=True), without_rules(HOME, tokens=False)], callers):
        listed = found.readable(caller)
        for service in [*HOME, "guest", "nobody"]:
            assert (listed is None or service in listed) == found.allows(caller, "read", service), (caller, service)


def test_a_mere_claim_reads_redacted_and_changes_nothing(rules: Access):
    """With an unproven name, answers show no secrets, and a refused write says how to prove the name."""
    claim = Caller("lamp", "mqtt")
    assert check(rules, claim, "get", "lamp").secrets is False
    assert check(rules, proven("lamp"), "get", "lamp").secrets is True
    for operation in ("set", "recipient", "batch", "reload"):
        with pytest.raises(Unauthorized, match="aliciacfg acl"):
            check(rules, claim, operation, "lamp")


def test_nobody_may_only_ask_how_the_daemon_is(rules: Access):
    """Without a name everything but health is unauthorized, and the refusal says what to send."""
    unnamed = Caller(None, "http", proven=True, role="admin")
    assert check(rules, unnamed, "health").allowed
    for operation in NEEDS.keys() - {"health", "whoami"}:
        with pytest.raises(Unauthorized, match="send a token"):
            check(rules, unnamed, operation, "lamp")


@pytest.mark.parametrize(
    ("operation", "service", "words"),
    [
        ("get", "lamp", ["bell is not allowed to read lamp", "services.lamp.read in environments/access.yaml"]),
        ("validate", "lamp", ["bell is not allowed to read lamp"]),
        ("list", "lamp", ["bell is not allowed to read lamp"]),
        ("patch", "lamp", ["bell is not allowed to write lamp", "services.lamp.write"]),
        ("batch", "lamp", ["bell is not allowed to write lamp"]),
        ("batch", None, ["a service that bell is allowed to write", "under admins", "role writer"]),
        ("environments", None, ["environments needs", "under admins", "role reader"]),
        ("reload", None, ["reload needs", "under admins", "role admin"]),
        ("recipient", "lamp", ["recipient of lamp", "lamp itself"]),
    ],
)
def test_a_refusal_says_what_is_missing_and_who_can_give_it(
    rules: Access, operation: str, service: str | None, words: list[str]
):
    """The reason names the caller, the permission and the place in the file."""
    with pytest.raises(Forbidden) as refused:
        check(rules, proven("bell"), operation, service)
    for word in words:
        assert word in refused.value.message


def test_without_rules_and_tokens_everything_is_open_and_nobody_administers():
    """Without rules everything is allowed, except what only proven administrators are shown."""
    everything = without_rules(HOME, tokens=False)
    for operation, caller in product(NEEDS, (Caller(None, "http"), Caller("x", "mqtt"))):
        # Whose key a service's secrets are sealed to is no matter of claims.
        assert allows(everything, caller, operation, "lamp") == (operation != "recipient")
        assert not everything.administers(caller)
    assert everything.names == sorted(HOME)


@pytest.mark.parametrize(
    "closed",
    [
        without_rules(HOME, tokens=True),
        load("", services=HOME),
        load("# a comment\n", services=HOME),
        load("services:\ngroups:\nadmins:\nusers:\n", services=HOME),
    ],
)
def test_one_token_or_an_empty_file_closes_everything(closed: Access):
    """An empty file gives a service only its own configuration; a file emptied by accident does not open the home."""
    assert closed.enforced
    for operation, service in product(NEEDS.keys() - {"health", "whoami"}, HOME):
        need = NEEDS[operation]
        expected = service == "lamp" and need in {"read", "read_any", "own"}
        assert allows(closed, proven("lamp"), operation, service) == expected
    assert not allows(closed, Caller(None, "http"), "get", "lamp")
