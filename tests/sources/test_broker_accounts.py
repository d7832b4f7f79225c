"""Which services need a password of their own at the broker, and how they get it in the secrets file."""

import json
from pathlib import Path

import pytest

from aliciacfg.documents import find, yaml_reader
from aliciacfg.errors import SourceError
from aliciacfg.sources import broker_accounts, loader
from aliciacfg.sources.layers import Environment
from repository import ROOT, SERVICES


def environment(directory: Path, **files: str) -> Environment:
    """The environment ``dev`` of these files, keys by their names with ``_`` for ``-``."""
    directory.mkdir()
    for name, text in files.items():
        (directory / f"{name.replace('_', '-')}.yaml").write_text(text)
    found = loader.load(environments_dir=directory, schemas_dir=ROOT / "schemas", variables={}).environments["dev"]
    assert not found.problems
    return found


def password(text: str | None) -> str:
    return f"mqtt_config: {{password: {json.dumps(text)}}}"


def test_a_password_of_ones_own_is_enough(tmp_path: Path):
    """Whatever file it is in; a shared one, an own one that two have, or none, is not."""
    found = environment(
        tmp_path / "environments",
        base=f"services: {{a: {{}}, b: {{}}, c: {{}}, d: {{{password('of-d')}}}, e: {{}}, f: {{}}}}",
        dev=(
            f"defaults: {{{password('everybodys')}}}\n"
            f"services: {{b: {{{password('of-b')}}}, c: {{{password('of-d')}}}, e: {{{password(None)}}}}}"
        ),
    )
    assert broker_accounts.without_password(found, {}) == ["a", "c", "d", "e", "f"]


def test_what_the_secrets_file_says_is_somebodys_decision(tmp_path: Path):
    """Shared or not, under a service or for all; a box counts as the password that is in it."""
    base = "services: {a: {}, b: {}, c: {}, d: {}}"
    shared = f"defaults: {{{password('everybodys')}}}"
    told = f"services: {{a: {{{password('same')}}}, b: {{{password('same')}}}, c: {{{password('sealed:v1:x:y')}}}}}"
    found = environment(tmp_path / "some", base=base, dev=shared, dev_secrets=told)
    assert broker_accounts.without_password(found, {}) == ["d"]
    found = environment(tmp_path / "all", base=base, dev_secrets=shared)
    assert broker_accounts.without_password(found, {}) == []


def test_what_was_changed_at_run_time_counts(tmp_path: Path):
    """A password of one's own needs no other; the same as somebody else's, or the default for all, is none."""
    found = environment(
        tmp_path / "environments",
        base="services: {a: {}, b: {}, c: {}, d: {}}",
        dev=f"defaults: {{{password('everybodys')}}}\nservices: {{d: {{{password('of-d')}}}}}",
    )
    recorded = {"a": "of-a", "b": "of-b", "c": "everybodys", "d": "of-b", "guest": "everybodys"}
    assert broker_accounts.without_password(found, recorded) == ["b", "c", "d"]
    assert broker_accounts.with_default_password(found, recorded) == ["c", "guest"]


def test_a_default_of_the_secrets_file_is_no_default_for_all(tmp_path: Path):
    """Only whoever may read secrets knows it; nor is a number one, which is no password."""
    found = environment(
        tmp_path / "environments",
        base="services: {a: {}, b: {}}\ndefaults: {mqtt_config: {password: 7}}",
        dev_secrets=f"defaults: {{{password('of-the-secrets')}}}\nservices: {{c: {{}}}}",
    )
    assert broker_accounts.with_default_password(found, {"a": "of-the-secrets", "b": "7"}) == []
    assert broker_accounts.only_in_secrets(found) == ["c"]


def test_a_service_without_a_connection_needs_no_password(tmp_path: Path):
    """It never said so, or a higher file took away what the defaults say."""
    found = environment(
        tmp_path / "environments",
        base="services: {a: {settings: {x: 1}}, b: {mqtt_config: {host: h}}, c: {}, d: {mqtt_config: null}}",
        dev="services: {c: {mqtt_config: {host: h}}}",
    )
    assert broker_accounts.without_connection(found) == ["a", "d"]
    assert broker_accounts.without_password(found, {}) == ["b", "c"]


def test_the_home_in_development_needs_one_for_every_service():
    """dev.yaml has one password for all of them, which everybody may know."""
    sources = loader.load(environments_dir=ROOT / "environments", schemas_dir=ROOT / "schemas", variables={})
    assert broker_accounts.without_password(sources.environments["dev"], {}) == SERVICES


@pytest.mark.parametrize(
    "before", ["", "# of the home\n", "services:\n", "services:\n  a:\n    settings:\n      ha_token: x  # stays\n"]
)
def test_passwords_go_into_the_file_that_is_there(before: str):
    """They parse as they are; every line of before is still there, and a new file says what it is."""
    made = {"a": broker_accounts.generate(), "b.c": "no", "d": "0123"}
    text = broker_accounts.add_passwords(before, made, file="dev-secrets.yaml")
    document = yaml_reader.load(text, file="dev-secrets.yaml").value
    for service, secret in made.items():
        assert find(document, f"/services/{service}/mqtt_config/password") == secret
    assert set(before.splitlines()) <= set(text.splitlines())
    assert text.startswith(before.partition("\n")[0] or "# Passwords at the broker")
    assert broker_accounts.add_passwords(text, made, file="dev-secrets.yaml") == text


def test_a_file_that_is_something_else_is_told():
    """With its place, and nothing is made of it."""
    with pytest.raises(SourceError, match="dev-secrets"):
        broker_accounts.add_passwords("services: [a]\n", {"a": "x"}, file="dev-secrets.yaml")


def test_passwords_are_random_and_need_no_quotes():
    """None twice, long enough that nobody guesses one, and of letters that shells and files leave alone."""
    made = {broker_accounts.generate() for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 32 and one.replace("-", "").replace("_", "").isalnum() for one in made)


def test_users_with_one_password_are_named_together():
    """Each could log in as the others."""
    assert broker_accounts.shared_passwords({"c": "x", "a": "x", "b": "y", "d": None}) == [["a", "c"]]
