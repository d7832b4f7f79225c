"""What stands for secrets in a text that others read."""

import json

import pytest

from aliciacfg.model.redaction import without_secrets

SECRET = "-----BEGIN\nab\\c\"d'\u00e9\t"


@pytest.mark.parametrize(
    "quoted", [f"'{SECRET}'", repr(SECRET), json.dumps(SECRET), json.dumps(SECRET, ensure_ascii=False)]
)
def test_a_secret_is_taken_out_however_it_is_quoted(quoted: str):
    """As it is, and as Python and JSON write line breaks, quotes and letters beyond ASCII."""
    assert without_secrets(f"cannot use {quoted}", [SECRET]) == f"cannot use {quoted[0]}***{quoted[-1]}"


def test_a_secret_that_is_part_of_another_leaves_nothing_of_it():
    """The longest is taken out first; an empty one is none."""
    assert without_secrets("a short one and more", ["short", "a short one", ""]) == "*** and more"
