"""Migrations: what becomes of run-time changes when a schema moves to another major version."""

from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import InvalidRequest, SourceError
from aliciacfg.schemas.migrations import MigrationFile, migrate, steps_between
from aliciacfg.sources import loader
from inprocess import Home

STEP = "schemas/one/migrations/1-to-2.yaml"


def step(between: str, *operations: dict[str, Any]) -> MigrationFile:
    before, after = between.split("-to-")
    return MigrationFile(f"{between}.yaml", int(before), int(after), operations)


@pytest.mark.parametrize(
    ("known", "before", "after", "taken"),
    [
        (["1-to-2"], "1.4.0", "2.0.0", ["1-to-2"]),
        (["2-to-3", "1-to-2"], "1.0.0", "3.1.0", ["1-to-2", "2-to-3"]),
        (["1-to-2", "2-to-3", "1-to-3"], "1.0.0", "3.0.0", ["1-to-3"]),
        (["1-to-2", "2-to-3", "1-to-3"], "2.9.9", "3.0.0", ["2-to-3"]),
        (["1-to-4"], "1.0.0", "3.0.0", None),
        (["2-to-3"], "1.0.0", "3.0.0", None),
        (["1-to-2"], "1.0.0", "3.0.0", None),
        (["1-to-3", "1-to-2", "2-to-4"], "1.0.0", "4.0.0", ["1-to-2", "2-to-4"]),
        (["0-to-1", "1-to-2"], "0.3.0", "2.0.0", ["0-to-1", "1-to-2"]),
        ([], "1.0.0", "2.0.0", None),
    ],
)
def test_the_steps_that_lead_from_one_version_to_another(
    known: list[str], before: str, after: str, taken: list[str] | None
):
    """The longest steps that get there, also where a longer one leads nowhere."""
    found = steps_between([step(name) for name in known], before, after)
    assert (None if found is None else [f"{item.from_major}-to-{item.to_major}" for item in found]) == taken


OVERLAY: dict[str, Any] = {"settings": {"timeout": 5, "list": [1, 2], "gone": None}, "limits": {"x": 1}}


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        (
            {"op": "move", "from": "/settings/timeout", "path": "/settings/timing/seconds"},
            {"settings": {"list": [1, 2], "gone": None, "timing": {"seconds": 5}}, "limits": {"x": 1}},
        ),
        ({"op": "move", "from": "/limits/x", "path": "/limit"}, {"settings": OVERLAY["settings"], "limit": 1}),
        ({"op": "remove", "path": "/limits/x"}, {"settings": OVERLAY["settings"]}),
        ({"op": "remove", "path": "/settings"}, {"limits": {"x": 1}}),
        (
            {"op": "remove", "path": "/settings/gone"},
            {"settings": {"timeout": 5, "list": [1, 2]}, "limits": {"x": 1}},
        ),
        (
            {"op": "move", "from": "/settings/gone", "path": "/settings/lost"},
            {"settings": {"timeout": 5, "list": [1, 2], "lost": None}, "limits": {"x": 1}},
        ),
        ({"op": "add", "path": "/a/b/c", "value": 1}, {**OVERLAY, "a": {"b": {"c": 1}}}),
        (
            {"op": "add", "path": "/settings/list/-", "value": 3},
            {"settings": {"timeout": 5, "list": [1, 2, 3], "gone": None}, "limits": {"x": 1}},
        ),
        ({"op": "copy", "from": "/limits/x", "path": "/limits/y"}, {**OVERLAY, "limits": {"x": 1, "y": 1}}),
        ({"op": "replace", "path": "/limits/x", "value": 2}, {**OVERLAY, "limits": {"x": 2}}),
        ({"op": "test", "path": "/limits/x", "value": 1}, OVERLAY),
        ({"op": "move", "from": "/other", "path": "/place"}, OVERLAY),
        ({"op": "copy", "from": "/other/x", "path": "/place"}, OVERLAY),
        ({"op": "remove", "path": "/other"}, OVERLAY),
        ({"op": "replace", "path": "/settings/other", "value": 1}, OVERLAY),
        ({"op": "test", "path": "/settings/other", "value": 1}, OVERLAY),
    ],
)
def test_an_operation_changes_what_an_overlay_says_and_nothing_else(operation: dict[str, Any], result: dict[str, Any]):
    """What an overlay is silent about stays so; a removal stays a removal; no empty object is left behind."""
    before = {name: dict(value) for name, value in OVERLAY.items()}
    assert migrate(OVERLAY, [step("1-to-2", operation)]) == result
    assert before == OVERLAY


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        ({"op": "test", "path": "/limits/x", "value": True}, "operation 1 (test): the value is different"),
        ({"op": "remove", "path": ""}, "operation 1 (remove)"),
        ({"op": "add", "path": "/settings/list/7", "value": 1}, "operation 1 (add)"),
        ({"op": "add", "path": "/settings/timeout/x", "value": 1}, "operation 1 (add)"),
        ({"op": "move", "from": "/settings", "path": "/settings/x"}, "operation 1 (move)"),
        ({"op": "replace", "path": "", "value": []}, "a value that is not an object"),
    ],
)
def test_an_operation_that_does_not_apply_is_named(operation: dict[str, Any], told: str):
    """With the file and its number."""
    first = {"op": "test", "path": "/limits/x", "value": 1}
    with pytest.raises(InvalidRequest) as error:
        migrate(OVERLAY, [step("1-to-2", first, operation)])
    assert told in error.value.message


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("1-to-2.yaml", "op: remove\n", "1-to-2.yaml:1: found object; expected a list"),
        ("1-to-2.yaml", " \n", "1-to-2.yaml: is empty"),
        ("1-to-2.yaml", "# soon\n", "1-to-2.yaml:1: found object"),
        (
            "1-to-2.yaml",
            "- {op: remove, path: /a}\n- {op: frob, path: /a}\n",
            "1-to-2.yaml:2: is not a JSON Patch operation",
        ),
        (
            "1-to-2.yaml",
            "- {op: remove, path: /a}\n\n- {op: add, path: /a}\n",
            "1-to-2.yaml:3: is not a JSON Patch operation",
        ),
        ("1-to-2.yaml", "- {op: move, path: /a}\n", "move has no 'from'"),
        ("1-to-2.yaml", "- {op: copy, from: a, path: /a}\n", "does not begin with '/'"),
        ("1-to-2.yaml", "- {op: remove, path: a}\n", "1-to-2.yaml:1"),
        ("1-to-2.yaml", "- {op: remove}\n", "1-to-2.yaml:1"),
        ("1-to-2.yaml", "- {path: /a}\n", "1-to-2.yaml:1"),
        ("1-to-2.yaml", "- remove\n", "1-to-2.yaml:1"),
        ("1-to-2.yaml", "- {op: remove, path: /a}\n- {op: [\n", "1-to-2.yaml:"),
        ("1-to-2.yaml", "- !!python/object:x {}\n", "1-to-2.yaml:1"),
        ("2-to-1.yaml", "[]", "2-to-1.yaml: files are named <from>-to-<to>.yaml"),
        ("2-to-2.yaml", "[]", "2-to-2.yaml: files are named"),
        ("one-to-two.yaml", "[]", "one-to-two.yaml: files are named"),
        ("1-to-2.yml", "[]", "1-to-2.yml: files are named"),
        ("1-to-2.json", "[]", "1-to-2.json: files are named"),
    ],
)
def test_a_malformed_migration_is_refused_with_its_place(tmp_path: Path, name: str, text: str, told: str):
    """File and line; nothing that is saved half is carried out."""
    home = Home(tmp_path, {f"schemas/one/migrations/{name}": text})
    with pytest.raises(SourceError) as error:
        home.load()
    assert told in str(error.value)
    assert str(error.value).startswith("schemas/one/migrations/")


def test_every_wrong_operation_is_named_at_once(tmp_path: Path):
    """Each with its line, of every file."""
    wrong = "- {op: add, path: /a}\n- {op: move, path: /a}\n- {op: remove, path: /a}\n"
    home = Home(tmp_path, {STEP: wrong, "schemas/two/migrations/1-to-2.yaml": wrong})
    with pytest.raises(SourceError) as error:
        home.load()
    assert [(problem.file.split("/")[1], problem.line) for problem in error.value.problems] == [
        ("one", 1), ("one", 2), ("two", 1), ("two", 2),
    ]  # fmt: skip


def test_what_editors_and_people_leave_beside_migrations_is_no_migration(tmp_path: Path):
    """Backup copies, swap files and notes refuse nothing."""
    names = ["1-to-2.yaml", "1-to-2.yaml~", ".1-to-2.yaml.swp", "README.md", "4913", "1-to-2.yaml.orig"]
    home = Home(tmp_path, {f"schemas/one/migrations/{name}": "[]" for name in names})
    (found,) = home.load().migrations["one"]
    assert found.file == STEP
    assert loader.source_paths(environments_dir=tmp_path / "environments", schemas_dir=tmp_path / "schemas")
