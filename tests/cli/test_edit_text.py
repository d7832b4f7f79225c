"""The text that `aliciacfg edit` gives to an editor, and what it reads of it."""

from typing import Any

import pytest

from aliciacfg.api.answers.explain import Explained
from aliciacfg.cli import edit_text
from aliciacfg.errors import Problem, SourceError

CONFIG: dict[str, Any] = {
    "limits": {"x": 5, "list": [1, {"a": "b"}]},
    "settings": {},
    "a/b": "yes",
    "secret": "***",
    "deep": {"er": {"est": "# no comment"}},
}
ORIGINS = {
    "/limits/x": Explained(value=5, layer="environments/dev.yaml#services", line=12, overridden=[]),
    "/limits/list/0": Explained(value=1, layer="overlay", line=None, revision=7, overridden=[]),
    "/a~1b": Explained(value="yes", layer="schema", line=None, overridden=[]),
}


def test_the_text_is_the_configuration_with_its_origins():
    """Reading it gives the configuration back; each value whose origin is known has it as a comment."""
    text = edit_text.render(CONFIG, ORIGINS, heading="bell in dev, revision 3")
    assert edit_text.parse(text, file="bell.yaml") == CONFIG
    assert text.startswith("# bell in dev, revision 3\n")
    origins = {line.split(":")[0].strip(): line.split("  # ")[1] for line in text.splitlines() if "  # " in line}
    assert origins == {"x": "environments/dev.yaml:12 (services)", "list": "overlay, revision 7", "a/b": "schema"}


def test_problems_stand_at_the_top_and_are_replaced():
    """Lines of problems are those of the text that has them; comments of the user stay."""
    text = "# mine\nlimits:\n  x: [1\n"
    for _ in range(2):
        with pytest.raises(SourceError) as found:
            edit_text.parse(text, file="bell.yaml")
        text = edit_text.with_problems(text, found.value.problems, message="The text is not YAML")
        first, told, *kept = text.splitlines()
        assert first == "#! The text is not YAML"
        assert kept == ["# mine", "limits:", "  x: [1"]
        assert told.startswith("#! line 5: ")
    shown = edit_text.with_problems(text, [Problem("/limits/x", "found\n1"), Problem("", "no")], message="Invalid")
    assert shown.splitlines()[:3] == ["#! Invalid", "#! /limits/x: found 1", "#! (document): no"]
    assert edit_text.same_content(shown, text)
    assert not edit_text.same_content(shown, text + "y: 1\n")


@pytest.mark.parametrize(("text", "empty"), [("", True), ("# a\n\n  # b\n", True), ("a: 1", False), ("{}", False)])
def test_a_text_of_comments_is_empty(text: str, empty: bool):
    """Which is how an edit is given up."""
    assert edit_text.is_empty(text) is empty
