"""Alerts and log lines about a load of the files, accepted or refused."""

from collections.abc import Sequence

import structlog

from aliciacfg.api.answers.environments import Migration
from aliciacfg.core.file_changes import FileChanges, as_problems
from aliciacfg.core.file_warnings import FileWarnings
from aliciacfg.core.plan import Problems
from aliciacfg.core.state import State
from aliciacfg.core.vanished_files import FilesVanished
from aliciacfg.counted import counted_are
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.model.config_id import ConfigId
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.sources.layers import Sources

_MAX_NAMED = 3

_log = structlog.get_logger(__name__)


class LoadReports:
    """Raises and clears the alerts about files; decides nothing."""

    def __init__(self, *, alerts: Alerts, state: State) -> None:
        """Hold the parts.

        Args:
            alerts: Get what people have to know.
            state: Has what is served instead of files that do not open.
        """
        self._alerts = alerts
        self._state = state
        # What the log has about them already, by event.
        self._logged: dict[str, list[str]] = {}

    def access_closed(self) -> None:
        """Report that the access rules are not known."""
        self._alerts.raise_(
            "access_closed",
            "The access rules are not known, so every request that needs one is refused. Correct the files; if "
            "there is no access.yaml, restart the daemon afterwards.",
        )

    def access_known(self) -> None:
        """Report that the access rules are known again."""
        self._alerts.clear("access_closed")

    def put_off(self, error: FilesVanished) -> None:
        """Report that a load waits for files to come back."""
        named = "; ".join(str(problem) for problem in error.problems[:_MAX_NAMED])
        self._alerts.raise_(
            "file_vanished",
            f"Files in force are gone; the previous configurations stay in force for now. {named}",
            problems=as_problems(error),
        )

    def refused(self, error: SourceError) -> str:
        """Report that files were refused; return the first reason."""
        _log.error("files_refused", problems=[str(problem) for problem in error.problems])
        self._alerts.clear("file_vanished")
        first = str(error.problems[0]) if error.problems else "nothing is wrong"
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        self._alerts.raise_(
            "validation_failed",
            f"The files were refused; the previous configurations stay in force: {first}{more}",
            problems=as_problems(error),
            # Health needs no permission, and a problem may quote a value.
            shown="The files were refused; the previous configurations stay in force; `aliciacfg check` "
            f"lists what is wrong ({len(error.problems)})",
            logged=True,
        )
        return first

    def accepted(self) -> None:
        """Report that the files on disk are in force."""
        self._alerts.clear("validation_failed")
        self._alerts.clear("file_vanished")

    def waiting(self, migrations: Sequence[Migration]) -> None:
        """Report which schemas wait for their migrations."""
        if not migrations:
            self._alerts.clear("migration_pending")
            return
        named = ", ".join(f"{item.service} ({item.from_version} to {item.to_version})" for item in migrations)
        self._alerts.raise_(
            "migration_pending",
            f"The schemas of {named} wait for their migrations; the old ones serve. Look with: aliciacfg migrate "
            "--dry-run; carry out with: aliciacfg migrate.",
            problems=[problem for item in migrations for problem in item.problems],
        )

    def loaded(self, sources: Sources, changes: FileChanges, warnings: FileWarnings) -> None:
        """Report what is wrong with files that were accepted all the same."""
        self._undecryptable(changes)
        self.set_aside(sources.set_aside)
        self._log_once("service_unclear", warnings.unclear)
        self._log_once("null_removes_nothing", warnings.nulls)
        self._log_once("name_misspelt", warnings.misspelt)
        self._log_once("hidden_value_invalid", warnings.hidden)
        if warnings.ended:
            _log.warning("service_ended", services=warnings.ended[:_MAX_NAMED], count=len(warnings.ended))
            self._alerts.emit(
                "service_ended",
                f"The files were loaded, and services end by it: {_some(warnings.ended)}. If that is not meant, put "
                "the name back: the configuration comes back with it.",
            )
        if warnings.shadowed:
            self._alerts.emit(
                "shadowed",
                f"The files were loaded, but changes made at run time hide {len(warnings.shadowed)} of the edited "
                f"values: {_some(warnings.shadowed)}. `aliciacfg unset` removes such a change.",
            )

    def set_aside(self, problems: Sequence[SourceProblem]) -> None:
        """Raise an alert about files that are ignored, or clear it."""
        if not problems:
            self._alerts.clear("validation_failed", of="ignored")
            return
        named = "; ".join(str(problem) for problem in problems[:_MAX_NAMED])
        self._alerts.raise_(
            "validation_failed",
            f"{counted_are(len(problems), 'file')} ignored, and everything else is served: {named}",
            of="ignored",
            problems=[problem.shown for problem in problems],
        )

    def _log_once(self, event: str, found: list[str]) -> None:
        """Log what is probably not meant in the files, once until it is another."""
        if found != self._logged.get(event, []):
            self._logged[event] = found
            if found:
                _log.warning(event, places=found[:_MAX_NAMED], count=len(found))

    def _undecryptable(self, changes: FileChanges) -> None:
        for environment, services in changes.undecryptable.items():
            said: list[str] = []
            if services:
                said.append(
                    f"Changes made at run time to {', '.join(services)} in {environment} do not open: their key is "
                    "missing, or the rows were changed in the database. The last revisions stay in force. Restore the "
                    "key file, or set these services again."
                )
            unopened = changes.unopened[environment]
            if unopened:
                said.append(self._describe_unopened(environment, unopened))
            if said:
                problems = [problem for listed in unopened.values() for problem in listed]
                self._alerts.raise_("undecryptable", " ".join(said), of=environment, problems=problems)
            else:
                self._alerts.clear("undecryptable", of=environment)

    def _describe_unopened(self, environment: str, unopened: Problems) -> str:
        heads = {service: self._state.committed(ConfigId(environment, service)) for service in unopened}
        missing = [service for service, entry in heads.items() if entry.live is None]
        first = next(iter(unopened.values()))[0].message
        served = f" There is no stored revision of {', '.join(missing)} to serve instead." if missing else ""
        return (
            f"The files of {environment} contain values for {', '.join(unopened)} that are sealed with keys that are "
            f"missing, the first one in {first}.{served} Restore a backup with its keys (`aliciacfg restore FILE`), "
            "add the key (`aliciacfg keys add`), or seal the values again."
        )


def _some(lines: Sequence[str]) -> str:
    """Return the first of many lines, and how many more there are."""
    more = len(lines) - _MAX_NAMED
    return "; ".join(lines[:_MAX_NAMED]) + (f" (and {more} more)" if more > 0 else "")
