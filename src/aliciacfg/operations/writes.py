"""The operations that write one configuration."""

import asyncio
from dataclasses import dataclass

from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers.configurations import DeletedAnswer, ValidateAnswer, WarningDetail
from aliciacfg.api.encoding import Answer
from aliciacfg.api.requests import (
    PatchRequest,
    RollbackRequest,
    SetRequest,
    UnsetRequest,
    ValidateRequest,
    WriteRequest,
)
from aliciacfg.core.commits import Commits
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.state import Entry, State
from aliciacfg.core.views import Views
from aliciacfg.documents import JsonObject
from aliciacfg.errors import Forbidden, InvalidDocument, InvalidRequest, NotFound, Problem, ValidationFailed
from aliciacfg.model.config_id import ConfigId
from aliciacfg.operations.ledger import answered
from aliciacfg.operations.write_answers import WriteAnswers, entry_difference, sequence_after, unknown_names
from aliciacfg.operations.write_planner import (
    PlannedChange,
    RequestedConfiguration,
    WritePlanner,
    replaced,
    restored,
    without_sending,
)
from aliciacfg.sealing.sealed_documents import sealed_document


@dataclass(frozen=True, slots=True)
class Current:
    """The current revision for a conditional write; the defaults mean that the configuration does not exist."""

    revision: int = 0
    checksum: str = ""
    etags: tuple[str, ...] = ()


class WriteOperations:
    """The operations that write one configuration."""

    def __init__(
        self,
        *,
        configurations: Configurations,
        state: State,
        files: LoadedFiles,
        views: Views,
        commits: Commits,
        planner: WritePlanner,
        answers: WriteAnswers,
        authorizer: Authorizer,
    ) -> None:
        self._configurations = configurations
        self._state = state
        self._files = files
        self._views = views
        self._commits = commits
        self._planner = planner
        self._answers = answers
        self._authorizer = authorizer

    def current(self, service: str, environment: str | None) -> Current:
        """Return the current revision, checksum and ETags of a configuration.

        Raises:
            InvalidRequest: A name is not valid.
            NotFound: There is no such environment.
        """
        live = self._state.head(self._configurations.config_id(service, environment)).live
        return Current() if live is None else Current(live.revision, live.checksum, self._views.etags(live))

    async def set(self, caller: Caller, service: str, request: SetRequest) -> Answer:
        """Replace the configuration, and store the smallest overlay that yields ``config``."""
        return await self._change(caller, self._id(service, request), request, "set", replaced(request.config))

    async def patch(self, caller: Caller, service: str, request: PatchRequest) -> Answer:
        """Apply a merge patch (RFC 7396) to the effective configuration.

        If a configuration from the files is invalid and nothing is stored, the patch applies to the files' content,
        so that it can correct that.
        """
        config_id = self._id(service, request)
        return await self._change(caller, config_id, request, "patch", self._planner.patched(config_id, request.patch))

    async def unset(self, caller: Caller, service: str, request: UnsetRequest) -> Answer:
        """Remove one place from the overlay, so that the value of the files applies again."""
        tokens = documents.parse_pointer(request.pointer)

        def wanted(base: JsonObject, entry: Entry) -> JsonObject:
            if entry.live is None:
                raise NotFound(f"There is no configuration of {service}.")
            return documents.merge(base, documents.without(entry.overlay or {}, tokens))

        config_id = self._id(service, request)
        return await self._change(caller, config_id, request, "unset", without_sending(wanted), refuse_breaking=False)

    async def delete(self, caller: Caller, service: str, request: WriteRequest) -> Answer:
        """Remove the overlay; if no file defines the service, delete the configuration."""
        config_id = self._id(service, request)

        async def make(plan: Plan) -> PlannedChange | tuple[Entry, Entry]:
            planner = self._files.planner(config_id.environment)
            entry = plan.head(config_id)
            if entry.live is None:
                raise NotFound(f"There is no configuration of {service} in {config_id.environment}.")
            if self._files.defines(config_id):
                from_files = without_sending(lambda base, _entry: base)
                return await self._planner.plan(plan, config_id, caller, request, from_files)
            self._planner.check_conditions(config_id, entry, request.expected_revision)
            return entry, planner.tombstone(plan, config_id)

        async def answer(planned: PlannedChange | tuple[Entry, Entry]) -> Answer:
            if isinstance(planned, PlannedChange):
                return await self._answers.of(planned, dry_run=request.dry_run, remains=True)
            entry, after = planned
            verb = "would have" if request.dry_run else "has"
            return Answer.of(
                DeletedAnswer(
                    service=service,
                    environment=config_id.environment,
                    revision=after.record.revision if after.record else 1,
                    sequence=sequence_after(entry, after, dry_run=request.dry_run),
                    epoch=self._state.epoch,
                    message=f"{service} {verb} no configuration in {config_id.environment} any more",
                    remains=False,
                    waits_for_broker=self._answers.waits_for_broker(config_id.environment),
                    dry_run=request.dry_run,
                    difference={service: await entry_difference(entry, after)} if request.dry_run else UNSET,
                )
            )

        context = _context(caller, request, "delete")
        return await answered(self._commits, context, make, answer, dry_run=request.dry_run)

    async def rollback(self, caller: Caller, service: str, request: RollbackRequest) -> Answer:
        """Make a new revision with the content of an old one, validated like any write, even after a deletion."""
        config_id = self._id(service, request)
        record = await self._configurations.revision(config_id, request.revision)
        # In a thread: the secrets of a large configuration take 30 ms to open.
        opened = await asyncio.to_thread(self._configurations.open_record, record)
        problems = opened.problems
        if problems:
            raise ValidationFailed(f"Revision {request.revision} of {service} holds secrets that do not open", problems)
        # The sealed document preserves which values were secret in the old revision.
        wanted = restored(sealed_document(record))
        return await self._change(caller, config_id, request, "rollback", wanted, refuse_breaking=False)

    async def validate(self, caller: Caller, service: str, request: ValidateRequest) -> Answer:
        """Return whether ``set`` would accept a configuration, and all problems.

        For a caller that may not write the service, secrets that it keeps (``***``) or sends sealed count as values
        that meet every rule, so that the answer does not help to guess one.
        """
        config_id = self._id(service, request)
        planner, wanted = self._files.planner(config_id.environment), replaced(request.config)
        opaque = not self._authorizer.allows(caller, "write", service)
        entry = self._state.head(config_id)
        problems: list[Problem] = []
        details: list[WarningDetail] = []
        try:
            self._planner.check_form(planner, config_id, entry, wanted)
        except InvalidRequest as refusal:
            problems += refusal.problems
        else:
            try:
                effective = await self._planner.compose(planner, config_id, entry, {}, wanted, opaque=opaque)
                details += unknown_names(planner, config_id, effective)
            except InvalidDocument as error:
                problems += wanted.refusal(error).problems
        if not opaque:
            self._planner.record_trial(caller, "validate", config_id, planner, entry, wanted)
        warnings = [detail.message for detail in details]
        return Answer.of(
            ValidateAnswer(valid=not problems, problems=problems, warnings=warnings, warning_details=details)
        )

    async def register(self, service: str) -> None:
        """Create the default configuration of a service that has none.

        Raises:
            OperationError: The name or the default configuration is not valid; or the limit on configurations is
                reached; or there are access rules and no file names the service, because a registration does not
                prove who sent it.
        """
        # Refused before the lock, if it has to be.
        self._configurations.config_id(service, None)

        async def make(plan: Plan) -> None:
            # Another environment may have become active while the change waited for the lock.
            config_id = self._configurations.config_id(service, None)
            if plan.head(config_id).live is not None:
                return
            environment, defined = config_id.environment, self._files.defines(config_id)
            if self._authorizer.access.enforced and not defined:
                raise Forbidden(
                    f"No file of {environment} names {service}, so it cannot register; an administrator can add it "
                    "under services in a file of the environment."
                )
            planner = self._files.planner(environment)
            self._configurations.check_room(config_id, plan)
            effective = planner.composer.compose(environment, service)
            planner.change(plan, config_id, effective=effective, overlay=None if defined else {})

        await self._commits.change(ChangeContext(service, "registration", operation="register", where="mqtt"), make)

    async def _change(
        self,
        caller: Caller,
        config_id: ConfigId,
        request: WriteRequest,
        operation: str,
        wanted: RequestedConfiguration,
        *,
        refuse_breaking: bool = True,
    ) -> Answer:
        """Carry out a write that leaves a configuration."""
        return await answered(
            self._commits,
            _context(caller, request, operation),
            lambda plan: self._planner.plan(plan, config_id, caller, request, wanted, refuse_breaking=refuse_breaking),
            lambda planned: self._answers.of(planned, dry_run=request.dry_run),
            dry_run=request.dry_run,
        )

    def _id(self, service: str, request: WriteRequest | ValidateRequest) -> ConfigId:
        return self._configurations.config_id(service, request.environment)


def _context(caller: Caller, request: WriteRequest, operation: str) -> ChangeContext:
    cause = "rollback" if operation == "rollback" else "api"
    return ChangeContext.of_request(caller, operation, cause=cause, comment=request.comment)
