"""How a change of several services is written for people."""

from typing import Any

import pytest

from aliciacfg.api.answers.changes import ValueChange
from aliciacfg.cli import changed_services, output
from aliciacfg.cli.changed_services import ChangedServices
from aliciacfg.cli.output import Line


def plain(line: Line) -> str:
    parts = [line] if isinstance(line, str) else line
    return "".join(part if isinstance(part, str) else part[0] for part in parts)


def written(found: ChangedServices, **fields: Any) -> list[str]:
    return [plain(line) for line in changed_services.lines(found, **fields)]


def change(old: object = None, new: object = None) -> ValueChange:
    return ValueChange(**({} if old is None else {"old": old}), **({} if new is None else {"new": new}))


def test_one_service_has_each_place_with_old_and_new():
    """No count of services and nothing in common, where there is only one."""
    places = {"/a": change(1, 2), "/b": change(new="x"), "/c": change(old=[1]), "/d": change("***", "***")}
    assert written(ChangedServices({"bell": places})) == [
        "  bell  4 places",
        "    ~ /a  1 → 2",
        '    + /b  "x"',
        "    - /c  [1]",
        '    ~ /d  "***", another secret',
    ]


def test_what_most_services_have_in_common_is_listed_once():
    """With the number of services; then what else each has, the names with nothing else, and who comes or goes."""
    host, level = {"/host": change("a", "b")}, {"/level": change(1, 2)}
    changes = {
        "one": {**host, **level},
        "two": host,
        "three": {**host, **level, "/x": change(1, 2)},
        "four": {**host, **level},
    }
    assert written(ChangedServices(changes, added=["five"], removed=["six"])) == [
        "  8 places in 4 services",
        '  ~ /host  "a" → "b"  in all 4 services',
        "  ~ /level  1 → 2  in 3 of 4 services",
        "  nothing else in four, one, two",
        "  three  1 of its 3 places",
        "    ~ /x  1 → 2",
        "  + five  new",
        "  - six  no configuration any more",
    ]
    assert written(ChangedServices({"dev": host, "lab": host}), noun="environment")[0] == "  2 places in 2 environments"


@pytest.mark.parametrize(("complete", "end"), [(True, "all of it"), (False, "more of it")])
def test_a_large_change_is_cut_with_counts(complete: bool, end: str):
    """The first places of each service, as many as lines are left; what the answer left out is counted with them."""
    changes = {
        f"s{number:02}": {f"/{number}/{place}": change(place, -1) for place in range(1, 21)} for number in range(15)
    }
    lines = written(ChangedServices(changes, {"s01": 7}, complete=complete))
    assert lines[0] == "  307 places in 15 services"
    assert lines[1:7] == [
        "  s00  20 places",
        *(f"    ~ /0/{place}  {place} → -1" for place in range(1, 5)),
        "    … and 16 more",
    ]
    assert "  s01  27 places" in lines
    assert "    … and 23 more" in lines
    assert lines[-1] == f"  -o json shows {end}"
    assert len(lines) < 100


def test_of_very_many_services_the_names_and_counts_are_left():
    """With the number of services that are not named."""
    changes = {f"s{number:03}": {f"/{number}": change(1, 2)} for number in range(500)}
    names = [f"n{number}" for number in range(40)]
    lines = written(ChangedServices(changes, added=names))
    assert lines[:2] == ["  500 places in 500 services", "  s000  1 place"]
    assert "  … and 380 services more" in lines
    assert lines[-1] == "  … and 10 services more"
    assert len(lines) < 160


@pytest.mark.parametrize("columns", [80, 140])
def test_lines_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int):
    """Values are cut, or stand below their place; a place is never cut."""
    monkeypatch.setattr(output, "width", lambda: columns)
    long = {"/settings/a_rather_long_name/of_a_place": change("x" * 300, "y" * 300), "/b": change(new="z" * 300)}
    changes = {f"service_with_a_long_name_{number}": long for number in range(4)}
    own = {"other": {"/c": change("x" * 40, "y" * 40), "/d": change(old="z" * 300)}}
    lines = written(ChangedServices({**changes, **own}))
    assert max(map(len, lines)) <= columns
    assert any("/settings/a_rather_long_name/of_a_place" in line for line in lines)
