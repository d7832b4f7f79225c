"""Reloads of the files of environments and schemas, and trials of one."""

from pathlib import Path

import jsonpatch
import pytest

from aliciacfg.errors import ValidationFailed
from builders import environment_file
from inprocess import core


async def test_the_difference_of_a_reload_is_what_the_reload_makes(tmp_path: Path):
    """The difference of a dry run equals the changes of the reload that follows."""
    services = {"bell": {"settings": {"a": 1, "token": "t"}}, "lamp": {"settings": {"a": 1}}}
    files = {"environments/base.yaml": environment_file(services), "environments/dev.yaml": ""}
    async with core(tmp_path, files) as made:
        old = {name: await made.config(name) for name in services}
        services["bell"]["settings"] = {"b": [1], "token": "u"}
        made.write("environments/base.yaml", environment_file(services))
        trial = await made.ask("reload", dry_run=True)
        assert {name: await made.config(name) for name in services} == old
        assert (trial["changed"], trial["dry_run"], list(trial["difference"])) == (["bell"], True, ["bell"])
        done = await made.ask("reload")
        assert (done["changed"], "difference" in done) == (["bell"], False)
        difference = trial["difference"]["bell"]
        assert {"op": "replace", "path": "/settings/token", "value": "***"} in difference
        assert jsonpatch.apply_patch(old["bell"], difference) == await made.config("bell")


async def test_a_trial_of_files_that_are_refused_is_refused_and_changes_nothing(tmp_path: Path):
    """A dry run of invalid files lists the problems and does not degrade the daemon."""
    files = {"environments/base.yaml": environment_file({"bell": {}}), "environments/dev.yaml": ""}
    async with core(tmp_path, files) as made:
        made.write("environments/dev.yaml", {"services": {"bell": {"limits": {"x": "many"}}}})
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("reload", dry_run=True)
        assert [problem.pointer for problem in refused.value.problems] == ["/services/bell/limits/x"]
        assert (made.parts.reloads.degraded, made.heard) == (None, [])
        with pytest.raises(ValidationFailed):
            await made.ask("reload")
        assert [alert.kind for alert in made.heard] == ["validation_failed"]
