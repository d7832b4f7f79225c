"""How answers are rendered for people: words, lines, tables and trees, without a daemon."""

import io
import re
import time
from typing import Any

import msgspec
import pytest

from aliciacfg.api.answers.administration import TokenItem
from aliciacfg.api.answers.changes import ValueChange
from aliciacfg.api.answers.compare import CompareAnswer, Sides
from aliciacfg.api.answers.configurations import HistoryItem
from aliciacfg.api.answers.environments import EnvironmentItem, EnvironmentsAnswer, Migration
from aliciacfg.api.answers.explain import Explained, Overridden, Removed
from aliciacfg.api.answers.monitoring import InstanceItem
from aliciacfg.cli import (
    diff,
    drift,
    environments,
    explain,
    formatting,
    history,
    output,
    tokens,
    writes,
)
from aliciacfg.cli.output import Branch, Cell, Table
from aliciacfg.errors import Problem

NOW = 1_700_000_000.0


def plain(cell: Cell, width: int = 40) -> str:
    """Return a line without its styles."""
    line = cell(width) if callable(cell) else cell
    return line if isinstance(line, str) else "".join(part if isinstance(part, str) else part[0] for part in line)


def flat(branch: Branch, depth: int = 0) -> list[str]:
    """Return a tree as indented lines."""
    own = ["  " * depth + plain(line).rstrip() for line in [branch.line, *branch.notes]]
    return own + [line for below in branch.branches for line in flat(below, depth + 1)]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "just now"),
        (-2, "just now"),
        (-60, "in the future"),
        (42, "42 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (7200, "2 h ago"),
        (86400, "1 day ago"),
        (5 * 86400, "5 days ago"),
        (800 * 86400, "2 years ago"),
    ],
)
def test_times_are_in_their_largest_unit(seconds: float, expected: str):
    """From seconds to years; a clock that is a few seconds ahead counts as now."""
    assert formatting.ago(NOW - seconds, now=NOW) == expected


def test_moments_are_in_the_time_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch):
    """To the second, without the zone's name."""
    monkeypatch.setenv("TZ", "Europe/Rome")
    time.tzset()
    try:
        assert formatting.moment(NOW) == "2023-11-14 23:13:20"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_long_texts_are_cut_where_they_say_least():
    """A pointer keeps its end, a value its beginning, a list its number."""
    assert formatting.elided("/a/b", 10) == "/a/b"
    assert formatting.elided("/settings/deep/down/name", 11) == "/sett…/name"
    assert formatting.short({"a": "ü"}) == '{"a": "ü"}'
    assert len(formatting.short("x" * 500)) == 60
    assert formatting.short("x" * 500).endswith("…")
    assert formatting.pointers(["/a", "", "/c", "/d", "/e"]) == "/a, (document), /c and 2 more"
    assert formatting.pointers([]) == ""


@pytest.mark.parametrize(
    ("layer", "line", "revision", "expected"),
    [
        ("environments/dev.yaml#services", 12, None, "environments/dev.yaml:12 (services)"),
        ("environments/base.yaml#defaults", 4, None, "environments/base.yaml:4 (defaults)"),
        ("overlay", None, 7, "overlay, revision 7"),
        ("schema", None, None, "schema"),
    ],
)
def test_origins_are_places_to_go_to(layer: str, line: int | None, revision: int | None, expected: str):
    """``file:line``, which editors open, and the revision of an overlay."""
    assert formatting.origin(layer, line, revision) == expected


def test_a_json_patch_is_a_line_for_each_operation():
    """Added, removed, replaced or moved; an empty patch is "nothing"."""
    patch = [
        {"op": "add", "path": "/a", "value": 1},
        {"op": "remove", "path": "/b"},
        {"op": "replace", "path": "/c", "value": "x"},
        {"op": "move", "path": "/d", "from": "/e"},
    ]
    lines = [plain(line) for line in formatting.difference_lines({"one": patch, "two": []})]
    assert lines == ["one", "  + /a  1", "  - /b", '  ~ /c  "x"', "  ~ /d  moved from /e", "two", "  nothing"]


@pytest.mark.parametrize("char", ["\x1b", "\x9b", "\u202e", "\x07", "\n", "\U000e0001", "\udc80"])
def test_control_characters_are_escaped(char: str):
    """Escape sequences, reordering characters and lone surrogates are visible; letters of any language stay."""
    shown = output.printable(f"ä日{char}[31m")
    assert shown.startswith("ä日\\u")
    assert shown.endswith("[31m")
    assert shown.isprintable()


def test_lines_and_tables_print_text_literally(capsys: pytest.CaptureFixture[str]):
    """Square brackets are not markup, numbers have no colours, and escapes are visible."""
    table = Table(["what"], [["[link=a]b"], [[("z\n", "")]]])
    output.print_blocks(["[bold]x[/bold] 5", [("\x1b[31m", "red"), "y"], table])
    printed = capsys.readouterr().out
    assert "[bold]x[/bold] 5\n" in printed
    assert "\\u001b[31my" in printed
    assert "[link=a]b" in printed
    assert "z\\u000a" in printed


def revision(**fields: Any) -> HistoryItem:
    known: dict[str, Any] = {
        "revision": 7, "sequence": 9, "version": "1.2.0", "timestamp": NOW - 200, "author": "mario", "cause": "api",
        "breaking": False, "comment": None, "checksum": "", "changed": ["/limits/x"], "restart_required": [],
    }  # fmt: skip
    return HistoryItem(**{**known, **fields})


def cells(item: HistoryItem, width: int = 40) -> list[list[str]]:
    return [[plain(cell, width) for cell in row] for row in history._rows(item, NOW)]


def test_a_revision_is_a_row_and_its_comment_another():
    """Revision, version, how long ago, author, and what changed; the cause where the author does not say it."""
    assert cells(revision(comment="for tonight", breaking=True)) == [
        ["7", "1.2.0", "3 min ago", "mario", "for tonight"],
        ["", "", "", "", "breaking: /limits/x"],
    ]
    assert cells(revision()) == [["7", "1.2.0", "3 min ago", "mario", "/limits/x"]]
    assert cells(revision(cause="rollback"))[0][4] == "rollback: /limits/x"
    assert cells(revision(changed=[]))[0][4] == "nothing changed"
    assert [row[4] for row in cells(revision(deleted=True, comment="gone"))] == ["deleted", "gone"]


def test_pointers_are_whole_where_there_is_room():
    """As many as fit, and the number of the others; only the last that is left is cut."""
    listed = ["/settings/first/place", "/settings/second", "/x"]
    assert formatting.fitting(listed, 80) == "/settings/first/place, /settings/second, /x"
    assert formatting.fitting(listed, 42) == "/settings/first/place and 2 more"
    assert formatting.fitting(listed, 30) == "…/first/place and 2 more"
    assert formatting.fitting(["/settings/devices_allowed_per_run", "/x"], 34) == "…/devices_a…wed_per_run and 1 more"
    assert formatting.fitting(["/limits/devices_allowed_per_run", "/x"], 28) == "/limits/…_per_run and 1 more"
    assert formatting.fitting(["/a", ""], 80) == "/a, (document)"
    assert formatting.fitting([], 80) == ""


def explained(value: Any, layer: str, line: int | None = None, **more: Any) -> Explained:
    return Explained(value=value, layer=layer, line=line, **{"overridden": [], **more})


def test_an_explanation_is_a_tree_of_the_document():
    """Neighbours are aligned; each leaf has its origin and the values it overrides; removed places are listed."""
    root = explain._Node()
    dev = "environments/dev.yaml#services"
    base = Overridden(layer="environments/base.yaml#defaults", line=4, value=50)
    said = {
        "/limits/long": explained(60, "overlay", revision=7, overridden=[base]),
        "/limits/x": explained("a" * 99, dev, 12),
        "/limits/y": Removed(layer=dev, line=13, overridden=[base]),
        "/a~1b": explained({}, "schema"),
    }
    for pointer, one in said.items():
        explain._insert(root, pointer, one)
    assert flat(Branch("voice_router", branches=explain._branches(root, 10))) == [
        "voice_router",
        "  limits",
        "    long  60          ← overlay, revision 7",
        "      instead of 50  ← environments/base.yaml:4 (defaults), shadowed by overlay, revision 7",
        '    x     "aaaaaaaa…  ← environments/dev.yaml:12 (services)',
        "    y     removed     ← environments/dev.yaml:13 (services)",
        "      instead of 50  ← environments/base.yaml:4 (defaults)",
        "  a/b  {}  ← schema",
    ]


def test_an_explanation_fits_the_terminal(monkeypatch: pytest.MonkeyPatch):
    """What is too wide goes on below, at the arrow; no word is broken."""
    monkeypatch.setattr(explain.output, "width", lambda: 72)
    root = explain._Node()
    base = Overridden(layer="environments/base.yaml#services", line=36, value=21)
    explain._insert(root, "/settings/target", explained(23, "overlay", revision=2, overridden=[base]))
    assert flat(Branch("heating", branches=explain._branches(root, 40))) == [
        "heating",
        "  settings",
        "    target  23  ← overlay, revision 2",
        "      instead of 21  ← environments/base.yaml:36 (services)",
        "          shadowed by overlay, revision 2",
    ]


@pytest.mark.parametrize(
    ("value", "overridden", "note"),
    [
        (50, 50, "the same"),
        (50, 51, "instead of 51"),
        ("***", "***", 'instead of "***"'),
        (["***", 1], ["***", 1], 'instead of ["***", 1]'),
    ],
)
def test_secrets_are_not_said_to_be_the_same(value: Any, overridden: Any, note: str):
    """What is hidden looks alike whatever it is; of what is shown the same value is said to be so."""
    root = explain._Node()
    layer = "environments/base.yaml#defaults"
    explain._insert(
        root, "/x", explained(value, "overlay", overridden=[Overridden(layer=layer, line=4, value=overridden)])
    )
    assert (
        flat(Branch("", branches=explain._branches(root, 40)))[-1].strip()
        == f"{note}  ← environments/base.yaml:4 (defaults)"
    )


@pytest.mark.parametrize(
    ("place", "pointer", "expected"),
    [
        ("/limits/x", "", True),
        ("/limits/x", "/limits", True),
        ("/limits/x", "/limits/x", True),
        ("/settings/list", "/settings/list/3", True),
        ("/limits/xy", "/limits/x", False),
        ("/limits", "/limit", False),
    ],
)
def test_a_pointer_matches_places_at_below_and_around_it(place: str, pointer: str, expected: bool):
    """Only whole names match; the array explains a place inside it."""
    assert explain._matches(place, pointer) is expected


def test_a_comparison_is_printed_place_by_place(monkeypatch: pytest.MonkeyPatch):
    """Sorted, with a line for each leaf; long values are below each other; types are visible."""
    answer = CompareAnswer(
        service="one", env1="dev", env2="prod", rev1=7, rev2=3, equal=False,
        changed={"/b": Sides(env1=1, env2="1"), "/a": Sides(env1="long " * 20, env2="short and sweet")},
        only_in_env1={"/c": 5}, only_in_env2={"/d": {"e": {}, "f/g": [1]}},
        secrets=["/mqtt_config/password"],
    )  # fmt: skip
    monkeypatch.setattr(output, "width", lambda: 80)
    lines = [plain(line) for line in diff._lines(answer)]
    assert lines[:2] == ["--- one in dev, revision 7", "+++ one in prod, revision 3"]
    assert lines[2] == "~ /a"
    assert re.fullmatch(r'  - "(long )+l?o?n?g?…', lines[3])
    assert lines[4:] == [
        '  + "short and sweet"',
        '~ /b  1 → "1"',
        "- /c  5",
        "+ /d/e  {}",
        "+ /d/f~1g  [1]",
        "Only administrators see whether these secrets differ: /mqtt_config/password",
    ]


def test_equal_sides_are_one_sentence():
    """It names both revisions."""
    answer = CompareAnswer(
        service="one", env1="dev", env2="dev", rev1=1, rev2=3, equal=True,
        changed={}, only_in_env1={}, only_in_env2={}, secrets=[],
    )  # fmt: skip
    assert [plain(line) for line in diff._lines(answer)] == ["one is equal in dev, revision 1 and dev, revision 3."]


def test_a_migration_has_its_state():
    """It would be, is, or cannot be migrated; with files, environments, problems and difference."""
    common: dict[str, Any] = {
        "service": "one", "from_version": "1.4.0", "to_version": "2.0.0", "files": ["1-to-2.yaml"],
        "environments": ["dev"], "problems": [], "done": False,
    }  # fmt: skip
    moved = {"/x": ValueChange(old=5), "/y": ValueChange(new=5)}
    tried = Migration(**common, changes={"dev": moved}, changes_left_out={"dev": 1}, difference={"dev": []})
    assert [plain(line) for line in environments._migration_lines(tried, dry_run=True)] == [
        "one  1.4.0 → 2.0.0  would be migrated",
        "  by 1-to-2.yaml",
        "  run-time changes in dev",
        "  dev  3 places",
        "    - /x  5",
        "    + /y  5",
        "    … and 1 more",
        "  -o json shows all of it",
    ]
    done = Migration(**{**common, "done": True})
    assert "  migrated" in plain(environments._migration_lines(done, dry_run=False)[0])
    broken = Migration(**{**common, "problems": [Problem("/dev/x", "found 1; expected a string")]})
    lines = [plain(line) for line in environments._migration_lines(broken, dry_run=False)]
    assert lines[0].endswith("cannot be migrated")
    assert "  ✗ /dev/x: found 1; expected a string" in lines


def test_an_old_or_rejected_revision_of_an_instance_is_marked():
    """In words, not only by colour."""
    item = InstanceItem(
        instance="kitchen", revision=3, checksum="", status="rejected", since=NOW - 60, last_seen=NOW,
        current=False, error="port in use",
    )  # fmt: skip
    row = [plain(cell) for cell in drift._row(item, NOW, 4)]
    assert row == ["kitchen", "3 (old)", "rejected", "1 min ago", "just now", "port in use"]
    waiting = msgspec.structs.replace(item, revision=4, status="restart_pending")
    assert [plain(cell) for cell in drift._row(waiting, NOW, 4)][1:3] == ["4", "restart pending"]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"voice_router": {"limits": {}}}, "'voice_router'"),
        ({}, "no updates"),
        ({"updates": {}}, "found object"),
        ({"updates": [], "atomic": "yes"}, "/atomic: found string"),
        ({"updates": [], "dry_run": True}, "'dry_run'"),
        ([{}, 5], "/1: found number"),
        ("x", "found string"),
    ],
)
def test_a_batch_file_of_another_form_is_refused(document: Any, why: str, capsys: pytest.CaptureFixture[str]):
    """The message has what was found and what is expected; no request is sent."""
    with pytest.raises(SystemExit) as ended:
        writes._updates(document)
    assert ended.value.code == 4
    printed = capsys.readouterr().err
    assert why in printed
    assert '[{"service": …, "patch": …}, …]' in printed


def test_problems_are_listed_below_their_environment():
    """The messages name file and line, so no pointer is printed before them; a valid environment has no heading."""
    file, message = "environments/prod.yaml", "environments/prod.yaml:3: one /x: found 1; expected a string"
    problems = [Problem("/services/one/x", message, file=file, line=3, service="one")]
    answer = EnvironmentsAnswer(
        active="dev",
        environments=[
            EnvironmentItem(name="dev", protected=False, files=[], services=["one"], problems=[]),
            EnvironmentItem(name="prod", protected=True, files=[], services=["one"], problems=problems),
        ],
    )
    table, *lines = environments._environments_blocks(answer)
    assert isinstance(table, Table)
    assert [[plain(cell) for cell in row] for row in table.rows] == [
        ["dev", "yes", "", "1", "0"],
        ["prod", "", "yes", "1", "1"],
    ]
    assert [plain(line) for line in lines if not isinstance(line, Table | Branch)] == [
        "prod cannot be activated:",
        "  environments/prod.yaml:3: one /x: found 1; expected a string",
    ]
    active = environments._environments_blocks(msgspec.structs.replace(answer, active="prod"))
    assert plain(active[1]) == "prod: its files are refused, what was in force before serves:"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "never expires"),
        ({"expires": NOW}, f"expires {formatting.moment(NOW)}"),
        ({"expires": NOW, "revoked": NOW}, f"revoked {formatting.moment(NOW)}"),
        ({"confirmed": False}, "invalid: changed in the database"),
    ],
)
def test_the_state_of_a_token_is_one_phrase(fields: dict[str, Any], expected: str):
    """Revocation counts more than expiry."""
    known: dict[str, Any] = {
        "token_id": "1", "name": "me", "role": "admin", "created": NOW, "expires": None, "revoked": None,
        "confirmed": True,
    }  # fmt: skip
    assert tokens._state(TokenItem(**known | fields)) == expected


def test_what_happened_to_a_place_is_one_line_where_there_is_room():
    """Added, removed or changed; long values are below each other, and secrets are said to be others."""

    def shown(first: str | None, second: str | None, width: int = 60) -> list[str]:
        return [plain(line) for line in formatting.change_lines("/limits/x", (first, second), width=width)]

    assert shown("1", "2") == ["~ /limits/x  1 → 2"]
    assert shown(None, "2") == ["+ /limits/x  2"]
    assert shown("1", None) == ["- /limits/x  1"]
    assert shown("1" * 30, "2" * 30) == ["~ /limits/x", f"  - {'1' * 30}", f"  + {'2' * 30}"]
    assert shown(None, "2" * 99, width=40) == [f"+ /limits/x  {'2' * 24}…"]
    assert shown('"***"', '"***"') == ['~ /limits/x  "***", another secret']


def on_page(table: Table, monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    """What a terminal of so many columns shows of a table."""
    monkeypatch.setenv("COLUMNS", str(columns))
    page = io.StringIO()
    output._print_on(page, [table])
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", page.getvalue()).splitlines()]


def test_a_table_that_is_too_wide_folds_its_widest_column(monkeypatch: pytest.MonkeyPatch):
    """At words; where even that is too wide it is a list of records, in which nothing is folded."""
    words = "one two three four five six seven eight nine ten"
    table = Table(["name", "text"], [["bell", words], ["lamp", ""]])
    assert on_page(table, monkeypatch, 60) == ["name  text", f"bell  {words}", "lamp"]
    assert on_page(table, monkeypatch, 32) == [
        "name  text",
        "bell  one two three four five",
        "      six seven eight nine ten",
        "lamp",
    ]
    assert on_page(table, monkeypatch, 24) == ["name  bell", f"text  {words}", "", "name  lamp"]
    assert on_page(Table(["name"], [], empty="No names."), monkeypatch, 60) == ["No names."]


def test_a_cell_may_use_what_is_left(monkeypatch: pytest.MonkeyPatch):
    """It is told the columns that the others leave."""
    table = Table(["name", "rest"], [["bell", lambda width: "x" * width]])
    assert on_page(table, monkeypatch, 50)[1] == f"bell  {'x' * 44}"
    assert on_page(table, monkeypatch, 20) == ["name  bell", f"rest  {'x' * 14}"]


def test_a_secret_in_a_comparison_is_three_asterisks():
    """Where the answer has the word for one; a value that is that word stays."""
    answer = CompareAnswer(
        service="one", env1="dev", env2="prod", rev1=7, rev2=3, equal=False,
        changed={"/pin": Sides(env1="secret", env2="secret"), "/mode": Sides(env1="secret", env2="open")},
        only_in_env1={"/a": {"token": "secret"}}, only_in_env2={"/doors": [{"code": "secret"}]},
        secrets=[], hidden=["/a/token", "/doors/0/code", "/pin"],
    )  # fmt: skip
    lines = [plain(line) for line in diff._lines(answer)]
    assert lines[2:] == [
        '- /a/token  "***"',
        '+ /doors  [{"code": "***"}]',
        '~ /mode  "secret" → "open"',
        '~ /pin  "***", another secret',
    ]


def test_a_row_that_goes_on_with_another_one_is_a_part_of_its_list():
    """On a terminal that is too narrow for the table: no empty line between, and no label again."""
    table = output.Table(["when", "what"], [["now", "for the party"], ["", "/limits/x"], ["then", "/limits/y"]])
    page = io.StringIO()
    output._print_records(output._console(page, 12), table)
    plain_lines = [re.sub("\x1b[^m]*m", "", line).rstrip() for line in page.getvalue().splitlines()]
    assert plain_lines == ["when  now", "what  for the party", "      /limits/x", "", "when  then", "what  /limits/y"]
