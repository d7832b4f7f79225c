"""The names that services, environments and requesters may have."""

import pytest

from aliciacfg.errors import InvalidRequest
from aliciacfg.model import names

GOOD = ["a", "0", "voice_router", "Voice-Router.2", "a" * 64, "a..b", "update", "x-secret", "secrets"]
MALFORMED = [
    "", " ", "a b", "_a", "-a", ".a", ".", "..", "a/b", "a+", "a#", "+", "#", "$SYS", "a\n", "\na", "a\0", "a" * 65,
    "é", "a\u0660", "\uff41", "\ud800", "../a", "a\\b", "a%20b",
]  # fmt: skip
# The first level after alicia/config/, the last of a path: of every operation, and what else stands there.
OPERATIONS = [
    "get", "set", "patch", "unset", "delete", "validate", "schema", "list", "batch", "history", "rollback", "explain",
    "compare", "environments", "activate", "reload", "recipient", "health",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_ordinary_names_are_taken(name: str):
    """Letters, digits, and _ . - after the first character, 64 in all; for services, environments and requesters."""
    names.check_service(name)
    names.check_environment(name)
    assert names.is_caller_name(name)


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_names_are_refused_for_everything(name: str):
    """What could climb out of a directory, be a wildcard, hide or grow is no name, and the refusal says the form."""
    with pytest.raises(InvalidRequest, match="begins with a letter a to z"):
        names.check_service(name)
    with pytest.raises(InvalidRequest, match="begins with a letter a to z"):
        names.check_environment(name)
    assert not names.is_caller_name(name)


@pytest.mark.parametrize("name", [*OPERATIONS, "instances", "reply"])
def test_words_of_topics_and_paths_name_no_service(name: str):
    """GET /config/schema/x and alicia/config/get/x stay unambiguous; such a word may name an environment.

    Nor a requester, who would own the topics of other requesters' answers.
    """
    with pytest.raises(InvalidRequest, match=name):
        names.check_service(name)
    assert not names.is_caller_name(name)
    names.check_environment(name)


@pytest.mark.parametrize("name", ["base", "access", "dev-secrets", "base-secrets", "a-secrets"])
def test_names_of_files_with_another_meaning_name_no_environment(name: str):
    """base.yaml, access.yaml and *-secrets.yaml are no environments; a service may have such a name."""
    with pytest.raises(InvalidRequest, match=name):
        names.check_environment(name)
    names.check_service(name)


def test_reserved_words_are_reserved_as_they_are_written():
    """Topics and paths tell capitals apart, so Get is free."""
    names.check_service("Get")
    names.check_environment("Base")


def test_a_refusal_quotes_no_more_than_the_beginning():
    """A megabyte in the place of a name does not come back as a megabyte of message."""
    with pytest.raises(InvalidRequest) as refused:
        names.check_service("x" * 1_000_000)
    assert len(str(refused.value)) < 300
