"""The answers to writes."""

import asyncio
from collections.abc import Callable

from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.api.answers.configurations import WarningDetail, WriteAnswer
from aliciacfg.api.encoding import Answer
from aliciacfg.core.changed_values import ChangedValues, Content, changed_values
from aliciacfg.core.composer import Effective
from aliciacfg.core.file_warnings import newly_shadowed
from aliciacfg.core.planner import Planner
from aliciacfg.core.state import Entry, State
from aliciacfg.core.views import Views, difference
from aliciacfg.documents import JsonObject
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Record
from aliciacfg.operations.write_planner import PlannedChange
from aliciacfg.sealing.sealed_documents import redact

_MAX_SHADOWED = 10


class WriteAnswers:
    """Renders the answers to writes."""

    def __init__(self, state: State, views: Views, *, broker_away: Callable[[], bool]) -> None:
        self._state = state
        self._views = views
        self._broker_away = broker_away

    def waits_for_broker(self, environment: str) -> bool:
        """Return whether a change of an environment is published only when the broker is back."""
        return environment == self._state.active and self._broker_away()

    async def of(self, planned: PlannedChange, *, dry_run: bool, remains: bool | None = None) -> Answer:
        """Return the answer to a write that leaves a configuration.

        Args:
            planned: The change, which is durable by now unless it is a dry run.
            dry_run: Nothing was changed.
            remains: After ``delete``: the configuration still exists.
        """
        before, after, effective = planned.before, planned.after, planned.effective
        record = _record(after)
        unchanged = before.record is record
        document = planned.redacted
        if document is None:
            document = redact(effective.document, effective.secrets)
        config_id = ConfigId(record.environment, record.service)
        changes = ChangedValues() if unchanged else changed_values(before, Content.of(effective), record.changed)
        details = [] if unchanged else [*_new_names(planned, config_id), *_shadowed(planned, config_id)]
        answer = WriteAnswer(
            service=record.service,
            config={**document, "version": record.version},
            version=record.version,
            last_updated=record.timestamp,
            environment=record.environment,
            revision=record.revision,
            sequence=sequence_after(before, after, dry_run=dry_run),
            epoch=self._state.epoch,
            checksum=record.checksum,
            message=_message(before, after, dry_run=dry_run),
            changed=[] if unchanged else record.changed,
            restart_required=[] if unchanged else record.restart_required,
            warnings=[detail.message for detail in details],
            warning_details=details,
            waits_for_broker=not unchanged and self.waits_for_broker(record.environment),
            unchanged=unchanged,
            dry_run=dry_run,
            changes=changes.values,
            changes_left_out=changes.left_out,
            remains=UNSET if remains is None else remains,
            difference={record.service: await entry_difference(before, after)} if dry_run else UNSET,
        )
        if dry_run:
            # No ETag: the revision that it would name does not exist, and another write may become it.
            return Answer.of(answer)
        return Answer(documents.encode(answer), self._views.etag(record), created=before.live is None)


def unknown_names(planner: Planner, config_id: ConfigId, effective: Effective) -> list[WarningDetail]:
    """Return a warning for each member of a configuration that no schema describes."""
    return _unknown_names(planner, config_id, planner.written.unknown(*config_id, effective))


def _unknown_names(planner: Planner, config_id: ConfigId, unknown: list[str]) -> list[WarningDetail]:
    if not unknown:
        return []
    meant = planner.written.near_misses(config_id.service, unknown)
    return [
        WarningDetail(
            kind="unknown_name",
            message=f"{pointer} is not described by the schema; "
            + (f"did you mean {meant[pointer]}?" if pointer in meant else "is the name right?"),
            pointer=pointer,
            did_you_mean=meant.get(pointer, UNSET),
        )
        for pointer in unknown
    ]


def _new_names(planned: PlannedChange, config_id: ConfigId) -> list[WarningDetail]:
    """Return the warnings of ``unknown_names`` that a write gives rise to: not again with each one after it."""
    found = planned.planner.written.unknown(*config_id, planned.effective)
    if not found:
        return []
    before = planned.planner.document(planned.before)
    fresh = [pointer for pointer in found if not documents.has(before, pointer)]
    return _unknown_names(planned.planner, config_id, fresh)


def _shadowed(planned: PlannedChange, config_id: ConfigId) -> list[WarningDetail]:
    """Return warnings that later edits of files will not show, because the write hides their values."""
    environment = planned.planner.composer.sources.environments.get(config_id.environment)
    if environment is None:
        return []
    found = newly_shadowed(config_id, environment, planned.before, planned.after)
    details = [
        WarningDetail(
            kind="shadowed",
            message=str(value),
            pointer=value.pointer,
            file=value.file,
            line=value.line,
            overlay_revision=UNSET if value.revision is None else value.revision,
        )
        for value in found[:_MAX_SHADOWED]
    ]
    more = len(found) - _MAX_SHADOWED
    if more > 0:
        details.append(WarningDetail(kind="shadowed", message=f"{more} more values of files are shadowed by overlay"))
    return details


async def entry_difference(before: Entry, after: Entry) -> list[JsonObject]:
    """Return the JSON Patch of a dry run; computed in a thread, because for long arrays it takes seconds."""
    return await asyncio.to_thread(difference, before, after)


def sequence_after(before: Entry, after: Entry, *, dry_run: bool) -> int:
    """Return the place of a configuration after a write: the present one for a dry run, 0 if there is none."""
    record = (before if dry_run else after).record
    return 0 if record is None else record.home_sequence


def _record(entry: Entry) -> Record:
    if entry.record is None:
        raise TypeError("a change always leaves a record")
    return entry.record


def _message(before: Entry, after: Entry, *, dry_run: bool) -> str:
    record = _record(after)
    what = f"{record.service} in {record.environment}"
    if before.record is record:
        return f"{what} stays at revision {record.revision}: nothing differs"
    verb = "would be" if dry_run else "is"
    old = f" (was {before.live.revision})" if before.live else ""
    return f"{what} {verb} at revision {record.revision}{old}"
