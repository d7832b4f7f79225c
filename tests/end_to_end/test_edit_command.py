"""``aliciacfg edit`` on a terminal, with an editor that is a script."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from commands import aliciacfg, typed
from daemons import Daemon

SERVICE = "multi_language"


@pytest.fixture
def editor(tmp_path: Path) -> dict[str, str]:
    """An editor that runs the next of its lines of Python on the text; it keeps the texts that it was given."""
    script = tmp_path / "editor.py"
    script.write_text(
        "import pathlib, sys\n"
        "here, file = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[1])\n"
        "steps = (here / 'steps').read_text().splitlines()\n"
        "text = file.read_text()\n"
        "(here / f'given{len(steps)}').write_text(text)\n"
        "exec(steps[0])\n"
        "file.write_text(text)\n"
        "(here / 'steps').write_text('\\n'.join(steps[1:]))\n"
    )
    return {
        "VISUAL": f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}",
        "TMPDIR": str(tmp_path),
        "COLUMNS": "120",
    }


def edited(daemon: Daemon, editor: dict[str, str], *steps: str, keys: str, options: tuple[str, ...] = ()) -> str:
    """What a person sees of an edit, without colours."""
    (Path(editor["TMPDIR"]) / "steps").write_text("\n".join(steps))
    seen = typed(daemon, "edit", SERVICE, *options, keys=keys, environ=editor)
    return re.sub(r"\x1b\[[0-9;]*m", "", seen).replace("\r\n", "\n")


def setting(value: object) -> str:
    """The step that gives /limits/edited a value."""
    removed = r"text = re.sub(r'(?m)^  edited:.*\n', '', text)"
    return f"import re; {removed}; text = re.sub(r'(?m)^limits:$', 'limits:\\n  edited: {value}', text)"


def current(daemon: Daemon) -> dict[str, Any]:
    return json.loads(aliciacfg(daemon, "get", SERVICE, "--answer").stdout)


def test_what_is_valid_is_shown_asked_about_and_applied(shared: Daemon, editor: dict[str, str], tmp_path: Path):
    """The text has origins, and a secret as ***, which stays; what breaks readers is asked about besides."""
    shared.undo_changes(SERVICE)
    before = current(shared)
    seen = edited(shared, editor, setting(5), keys="y\n", options=("-m", "by hand"))
    assert "+ /limits/edited  5" in seen
    assert f"is at revision {before['revision'] + 1}" in seen
    given = (tmp_path / "given1").read_text()
    assert re.search(r'password: "\*\*\*" +# environments/dev\.yaml:\d+', given)
    after = json.loads(aliciacfg(shared, "history", SERVICE, "--limit", "1").stdout)["revisions"][0]
    assert (after["changed"], after["comment"]) == (["/limits/edited"], "by hand")
    removing = edited(shared, editor, r"import re; text = re.sub(r'(?m)^  edited:.*\n', '', text)", keys="y\ny\n")
    assert "/limits/edited: would disappear" in removing
    assert "- /limits/edited  5" in removing
    assert "edited" not in json.loads(aliciacfg(shared, "get", SERVICE).stdout)["limits"]
    assert list(tmp_path.glob("aliciacfg-edit-*")) == []


def test_what_is_wrong_stands_at_the_top_and_is_kept(shared: Daemon, editor: dict[str, str], tmp_path: Path):
    """The daemon's problems and those of YAML; who gives up is told where the text is."""
    before = current(shared)
    broken = "text += 'a: [1\\n'"
    seen = edited(shared, editor, setting("far"), broken, keys="y\nn\n")
    assert "/limits/edited: found 'far'; expected a number" in seen
    assert "#! /limits/edited: found 'far'; expected a number" in (tmp_path / "given1").read_text()
    assert "The text is not YAML" in seen
    (kept,) = tmp_path.glob("aliciacfg-edit-*/*.yaml")
    assert f"what you typed is in {kept}" in seen.replace("\n  ", " ")
    assert kept.read_text().endswith("a: [1\n")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert current(shared) == before


def test_a_change_meanwhile_is_noticed_and_stays(shared: Daemon, editor: dict[str, str]):
    """The user's changes are put on top of it, and what both changed is marked; Ctrl-C is the editor's."""
    interrupt = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); os.killpg(0, signal.SIGINT)"
    meanwhile = [sys.executable, "-m", "aliciacfg", "patch", SERVICE, '{"limits": {"theirs": 1, "edited": 8}}']
    patch = f"import subprocess; subprocess.run({meanwhile!r}, check=True, stdout=subprocess.DEVNULL)"
    seen = edited(shared, editor, f"{setting(7)}; {patch}; {interrupt}", "pass", keys="y\ny\n")
    assert "was changed meanwhile" in seen
    assert "+ /limits/theirs  1" in seen
    assert "~ /limits/edited  8 → 7" in seen
    limits = json.loads(aliciacfg(shared, "get", SERVICE).stdout)["limits"]
    assert (limits["theirs"], limits["edited"]) == (1, 7)


def test_no_is_no_and_no_change_is_none(shared: Daemon, editor: dict[str, str], tmp_path: Path):
    """An unchanged or empty text ends at once; who says no keeps the text; without a terminal nothing begins."""
    before = current(shared)
    assert "Nothing was changed." in edited(shared, editor, "pass", keys="")
    assert "Nothing was changed." in edited(shared, editor, "text = '# only this'", keys="")
    assert list(tmp_path.glob("aliciacfg-edit-*")) == []
    assert "what you typed is in" in edited(shared, editor, "text += 'typed: 1\\n'", keys="n\n")
    assert len(list(tmp_path.glob("aliciacfg-edit-*"))) == 1
    gone = edited(shared, editor, "text += 'lost: [1\\n'", "file.unlink(); sys.exit()", keys="y\n")
    assert "left no file" in gone
    assert "what you typed is in" in gone
    assert any("lost: [1" in path.read_text() for path in tmp_path.glob("aliciacfg-edit-*/*.yaml"))
    failing = typed(shared, "edit", SERVICE, keys="", environ={**editor, "VISUAL": "false"})
    assert "the editor false ended with 1" in failing
    assert current(shared) == before
    nowhere = aliciacfg(shared, "edit", SERVICE)
    assert (nowhere.returncode, "edit asks at a terminal" in nowhere.stderr) == (2, True)
