"""The rules file ``access.yaml``: what it may say, and each problem with its line."""

import pytest

from access_rules import EXAMPLE
from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import Role
from aliciacfg.access.rules_file import load
from aliciacfg.errors import SourceError
from repository import SERVICES

HOME = ("bell", "door", "lamp", "siren")


def proven(name: str, role: Role = "service") -> Caller:
    return Caller(name, "test", proven=True, role=role)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("- a\n", None, "found array at the top; expected a mapping"),
        ("admins: operator\n", 1, "found string at /admins; expected a list of names"),
        ("admins:\n  - 5\n", 2, "found number; expected a name"),
        ("admins: [a/b]\n", 1, "'a/b' cannot name a caller: a name begins"),
        ("admins: ['${ADMIN}']\n", 1, "'${ADMIN}' cannot name a caller"),
        ("\nusers: [get]\n", 2, "'get' cannot name a caller: the word is an operation"),
        ("groupes: {}\n", 1, "'groupes' is not known here; did you mean 'groups'?"),
        ("x: {}\n", 1, "'x' is not known here; expected one of groups, services, admins, users"),
        ("groups: [bell]\n", 1, "found array at /groups; expected a mapping"),
        ("groups:\n  a: [bel]\n", 2, "'bel' is neither a service of the environment files nor under users; did you"),
        ("groups:\n  a:\n    - bell\n    - zz\n", 4, "'zz' is neither a service of the environment files nor under"),
        ("services:\n  lampe: {}\n", 2, "no environment file has a service 'lampe'; did you mean 'lamp'?"),
        ("services:\n  zz: {}\n", 2, "define it there, or remove it here"),
        ("services:\n  lamp: [bell]\n", 2, "found array at /services/lamp; expected a mapping"),
        ("services:\n  lamp:\n    reed: {}\n", 3, "'reed' is not known here; did you mean 'read'?"),
        ("services:\n  lamp:\n    read: [bell]\n", 3, "found array at /services/lamp/read; expected a mapping"),
        (
            "services: {lamp: {read: {allowed_service: [bell]}}}\n", 1,
            "'allowed_service' is not known here; did you mean 'allowed_services'?",
        ),
        ("services:\n  lamp:\n    write:\n      allowed_services: [bel]\n", 4, "did you mean 'bell'?"),
        ("services:\n  lamp:\n    write:\n      allowed_groups: [x]\n", 4, "no group 'x'; add it to groups"),
        (
            "groups: {alarm: []}\nservices:\n  lamp:\n    write:\n      allowed_groups: [alarms]\n", 5,
            "there is no group 'alarms'; did you mean 'alarm'?",
        ),
        ("services:\n  a/b: {}\n", 2, "no environment file has a service 'a/b'"),
        ("admins: [a]\nadmins: [b]\n", 2, "admins"),
        ("admins: [\n", None, "not YAML"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_line(text: str, line: int | None, words: str):
    """Unknown keys, groups, services and names, wrong types; each says what to do to whoever may read the file."""
    with pytest.raises(SourceError) as refused:
        load(text, services=HOME)
    (problem,) = refused.value.problems
    assert problem.file == "environments/access.yaml"
    assert words in (problem.in_full or problem.message)
    assert line is None or problem.line == line


def test_all_problems_come_at_once_in_the_order_of_lines():
    """One error lists all problems of the file."""
    text = (
        "services:\n  lamp:\n    read: {allowed_services: [nobody]}\n  zz: {}\n"
        "groups:\n  alarm: [bel, siren]\nadmins: [a b]\n"
    )
    with pytest.raises(SourceError) as refused:
        load(text, services=HOME, file="here.yaml")
    assert [(problem.file, problem.line) for problem in refused.value.problems] == [
        ("here.yaml", 3), ("here.yaml", 4), ("here.yaml", 6), ("here.yaml", 7),
    ]  # fmt: skip


def test_an_administrator_may_stand_among_the_allowed():
    """Redundant, not wrong."""
    rules = load(
        "admins: [operator]\ngroups: {all: [operator, operator]}\n"
        "services: {lamp: {read: {allowed_services: [operator, lamp], allowed_groups: [all]}}}\n",
        services=HOME,
    )
    assert rules.services["lamp"].readers == {"operator", "lamp"}


def test_the_example_fits_the_services_of_the_home():
    """A copy of the example loads, and it shows every key."""
    rules = load(EXAMPLE, services=SERVICES)
    assert rules.enforced
    assert rules.allows(proven("stt_service"), "read", "voice_router")
    for key in ("groups:", "services:", "admins:", "users:", "read:", "write:", "allowed_services:", "allowed_groups:"):
        assert key in EXAMPLE
