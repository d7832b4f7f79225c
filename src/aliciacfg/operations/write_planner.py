"""Planning of writes: conditions, redacted secrets, validation, and protection of broker logins."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.api.requests import WriteRequest
from aliciacfg.core.composer import Effective
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.plan import Plan
from aliciacfg.core.planner import Planner
from aliciacfg.core.state import Entry
from aliciacfg.core.views import Views
from aliciacfg.documents import JsonObject
from aliciacfg.errors import (
    Conflict,
    Finding,
    Forbidden,
    InvalidDocument,
    NotComposed,
    NotFound,
    OperationError,
    Problem,
    ValidationFailed,
)
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.redaction import REDACTED
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.operations import misplaced_fields
from aliciacfg.schemas.validation_messages import for_sender

# A service logs in to the broker with these members, and by its login the broker proves the name of a requester.
_IDENTITY = tuple(f"/mqtt_config/{name}" for name in ("username", "password", "host", "port", "tls_enabled"))


@dataclass(frozen=True, slots=True)
class RequestedConfiguration:
    """A wanted configuration, and what the caller sent for it.

    Attributes:
        sent: A configuration or a merge patch; empty if the caller sent neither. ``***`` and sealed values have their
            meaning only here: in what comes from files or the store they have none.
        make: Returns the configuration, from the merged layers of the files, the current entry, and ``sent`` with its
            sealed values opened.
        stored: Whether ``sent`` comes from the store.
        form: What ``sent`` was sent as; None if the caller sent neither.
    """

    sent: JsonObject
    make: Callable[[JsonObject, Entry, JsonObject], JsonObject]
    stored: bool = False
    form: misplaced_fields.Form | None = None

    def refusal(self, error: InvalidDocument) -> ValidationFailed:
        """Return a refusal for the caller: it quotes what the caller sent, and nothing else."""
        sent: JsonObject = {} if self.stored else self.sent
        return ValidationFailed(error.message, [for_sender(finding, sent) for finding in error.findings])


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """A change that was planned.

    Attributes:
        planner: The planner that planned it.
        before: The entry that it builds on.
        after: The entry after the plan.
        effective: The content after the plan.
        redacted: The same with its secrets redacted, if it was rendered already.
    """

    planner: Planner
    before: Entry
    after: Entry
    effective: Effective
    redacted: JsonObject | None


class WritePlanner:
    """Plans the writes of callers."""

    def __init__(
        self,
        *,
        configurations: Configurations,
        files: LoadedFiles,
        views: Views,
        authorizer: Authorizer,
        audit_log: AuditLog,
        alerts: Alerts,
        count_invalid: Callable[[], None],
        shared: bool,
    ) -> None:
        self._configurations = configurations
        self._files = files
        self._views = views
        self._authorizer = authorizer
        self._audit_log = audit_log
        self._alerts = alerts
        self._count_invalid = count_invalid
        # Whether other daemons, which may have other files, write as well.
        self._shared = shared

    async def plan(
        self,
        plan: Plan,
        config_id: ConfigId,
        caller: Caller,
        request: WriteRequest,
        wanted: RequestedConfiguration,
        *,
        refuse_breaking: bool = True,
    ) -> PlannedChange:
        """Add to a plan what makes ``wanted`` the configuration; add nothing if it is refused.

        Args:
            plan: The plan.
            config_id: The configuration.
            caller: The author.
            request: Has the conditions.
            wanted: What the caller wants.
            refuse_breaking: Refuse a change that breaks readers, unless the request has ``allow_breaking``.

        Raises:
            OperationError: The write is refused.
        """
        planner = self._files.planner(config_id.environment)
        entry = plan.head(config_id)
        self.check_form(planner, config_id, entry, wanted)
        self.check_conditions(config_id, entry, request.expected_revision)
        self._configurations.check_room(config_id, plan)
        try:
            planned = await self._planned(
                plan, planner, config_id, caller, request, wanted, refuse_breaking=refuse_breaking
            )
        except ValidationFailed:
            self._plan_trial(plan, caller, config_id, planner, entry, wanted)
            raise
        if request.dry_run or planned.after.record is entry.record:
            self._plan_trial(plan, caller, config_id, planner, entry, wanted)
        return planned

    def check_form(self, planner: Planner, config_id: ConfigId, entry: Entry, wanted: RequestedConfiguration) -> None:
        """Raise InvalidRequest if what a caller sent is probably not the document that it was sent as."""
        if wanted.form is None:
            return
        schema = planner.composer.sources.schema(config_id.service)

        def knows(name: str) -> bool:
            return name in planner.document(entry) or not schema.unknown({name: None})

        misplaced_fields.check(wanted.sent, wanted.form, config_id.service, knows)

    def _plan_trial(
        self,
        plan: Plan,
        caller: Caller,
        config_id: ConfigId,
        planner: Planner,
        entry: Entry,
        wanted: RequestedConfiguration,
    ) -> None:
        """Have a trial recorded if this plan is the last one of its change."""
        plan.when_decided.append(
            lambda: self.record_trial(caller, plan.context.operation, config_id, planner, entry, wanted)
        )

    async def _planned(
        self,
        plan: Plan,
        planner: Planner,
        config_id: ConfigId,
        caller: Caller,
        request: WriteRequest,
        wanted: RequestedConfiguration,
        *,
        refuse_breaking: bool,
    ) -> PlannedChange:
        """Compose what is wanted and add the change to the plan; arguments and errors as for ``plan``."""
        entry = plan.head(config_id)
        base = planner.composer.base(config_id.environment, config_id.service)
        base = {name: value for name, value in base.items() if name != "version"}
        effective = await self._checked(plan, planner, config_id, entry, base, wanted, dry_run=request.dry_run)
        before = planner.document(entry) or base
        self._check_identity(caller, config_id, before, effective.document)
        if request.refuse_near_misses and not wanted.stored:
            _check_names(planner, config_id, before, effective)
        overlay: JsonObject | None = planner.composer.overlay(base, effective)
        if not overlay and self._files.defines(config_id):
            overlay = None
        refuse_breaking = refuse_breaking and not request.allow_breaking
        sealed = await planner.seal_ahead(plan, config_id, effective)
        try:
            after = planner.change(
                plan, config_id, effective=effective, overlay=overlay, refuse_breaking=refuse_breaking, sealed=sealed
            )
        except InvalidDocument as error:
            raise wanted.refusal(error) from error
        return PlannedChange(planner, entry, after, effective, plan.redacted.get(config_id))

    def record_trial(
        self,
        caller: Caller,
        operation: str,
        config_id: ConfigId,
        planner: Planner,
        entry: Entry,
        wanted: RequestedConfiguration,
    ) -> None:
        """Note in the audit log that nothing was stored of what a caller sent, if it sent secrets: they may be guesses.

        Args:
            caller: The author.
            operation: What it asked for.
            config_id: The configuration.
            planner: Of the files in force.
            entry: Its head.
            wanted: What the caller wants.
        """
        sent = {} if wanted.stored else self._views.kept(wanted.sent, entry.live)
        secrets = planner.composer.sources.schema(config_id.service).secrets(sent)
        if any(text != REDACTED for text in secrets.values()):
            self._audit_log.record_trial(caller, operation, config_id.service)

    def check_conditions(self, config_id: ConfigId, entry: Entry, expected_revision: int | None) -> None:
        """Raise an error if a write does not expect the current revision.

        Outside protected environments, ``expected_revision`` is optional.

        Raises:
            Conflict: The expected revision is missing or not the current one.
        """
        environment, service = config_id
        sources = self._files.sources
        protected = sources is not None and sources.environments[environment].protected
        if expected_revision == entry.revision or (expected_revision is None and not protected):
            return
        if expected_revision is None:
            message = (
                f"{environment} is protected: a write needs expected_revision. Send expected_revision {entry.revision} "
                "if you have seen that revision."
            )
        elif entry.revision == 0:
            message = (
                f"{service} in {environment} has no configuration, and so no revision {expected_revision}; it may have "
                "been deleted. Send expected_revision 0 to write it anew."
            )
        else:
            message = (
                f"{service} in {environment} is at revision {entry.revision}, not {expected_revision}; "
                "get it again and redo the change."
            )
        raise Conflict(message, revision=entry.revision, checksum=entry.live.checksum if entry.live else "")

    async def compose(
        self,
        planner: Planner,
        config_id: ConfigId,
        entry: Entry,
        base: JsonObject,
        wanted: RequestedConfiguration,
        *,
        opaque: bool = False,
    ) -> Effective:
        """Return the checked configuration that a caller wants, with sealed values opened and kept secrets filled in.

        Args:
            planner: Of the files in force.
            config_id: The configuration.
            entry: Its head.
            base: The merged layers of the files.
            wanted: What the caller wants.
            opaque: Whether the outcome must not depend on secrets that the caller does not send in plain text.

        Raises:
            InvalidDocument: It is invalid; lists everything.
            TooLarge: It is larger than allowed.
        """
        environment, service = config_id
        composer = planner.composer
        # Before anything walks the document.
        composer.bounds.check_count(service, wanted.sent)
        opened = await planner.written.open(environment, service, self._views.kept(wanted.sent, entry.live))
        return planner.written.check(
            environment,
            service,
            wanted.make(base, entry, opened.document),
            sent=opened,
            current=entry.effective,
            overlay=entry.overlay,
            kept=planner.secrets(entry),
            stored=wanted.stored,
            opaque=opaque,
        )

    def patched(self, config_id: ConfigId, patch: JsonObject) -> RequestedConfiguration:
        """Return the effective configuration with a merge patch applied as what is wanted.

        If nothing is stored because the configuration from the files is invalid, the patch applies to that. Planning it
        raises NotComposed where another daemon of the home, with other files, wrote what is stored.
        """

        def make(base: JsonObject, entry: Entry, sent: JsonObject) -> JsonObject:
            if entry.effective is not None:
                return documents.merge(entry.effective.document, sent)
            if entry.live is None and self._files.defines(config_id):
                return documents.merge(base, sent)
            if entry.live is not None and not entry.undecryptable and self._shared:
                raise NotComposed(
                    f"The files of this daemon do not yield what {config_id.service} is at present: those of another "
                    "one do. Bring the same files to all daemons of the home, or ask another one; nothing was changed."
                )
            raise NotFound(
                f"There is no usable configuration of {config_id.service} to patch; send a whole one with set."
            )

        return RequestedConfiguration(patch, make, form="patch")

    async def _checked(
        self,
        plan: Plan,
        planner: Planner,
        config_id: ConfigId,
        entry: Entry,
        base: JsonObject,
        wanted: RequestedConfiguration,
        *,
        dry_run: bool,
    ) -> Effective:
        """Validate a configuration; count an invalid one and raise an alert, unless it is a dry run."""
        try:
            return await self.compose(planner, config_id, entry, base, wanted)
        except InvalidDocument as error:
            if not dry_run:
                plan.when_decided.append(self._count_invalid)
                plan.when_decided.append(
                    partial(
                        self._alerts.emit,
                        "validation_failed",
                        error.message,
                        service=config_id.service,
                        problems=error.problems,
                    )
                )
            raise wanted.refusal(self._located(error, config_id, base, entry, wanted)) from error

    def _located(
        self,
        error: InvalidDocument,
        config_id: ConfigId,
        base: JsonObject,
        entry: Entry,
        wanted: RequestedConfiguration,
    ) -> InvalidDocument:
        """Return the error with file and line at each value that the caller did not send and a file holds.

        Not at secrets: it would say that the file's is the one in force.
        """
        sources = self._files.sources
        if sources is None or wanted.stored:
            return error
        try:
            whole = wanted.make(base, entry, wanted.sent)
        except OperationError:
            # What was sent was refused before it was applied; that is the caller's answer.
            return error

        def located(finding: Finding) -> Finding:
            value = documents.find(base, finding.pointer)
            if (
                not finding.quotable
                or value is UNSET
                or documents.find(wanted.sent, finding.pointer) is not UNSET
                or documents.find(whole, finding.pointer) != value
            ):
                return finding
            file, line = sources.environments[config_id.environment].locate(config_id.service, finding.pointer)
            where = f" ({file})" if line is None else f" ({file}:{line})"
            in_full = finding.expected_in_full and finding.expected_in_full + where
            return replace(finding, expected=finding.expected + where, expected_in_full=in_full)

        return InvalidDocument(error.message, map(located, error.findings))

    def _check_identity(self, caller: Caller, config_id: ConfigId, before: JsonObject, after: JsonObject) -> None:
        """Raise an error if the caller could log in to the broker as another service after this change.

        Args:
            caller: The author.
            config_id: The configuration.
            before: Its current content, or the content from the files.
            after: The wanted content.

        Raises:
            Forbidden: The change concerns the broker login, and the caller is neither the service nor an
                administrator.
        """
        access, service = self._authorizer.access, config_id.service
        if access.is_person(service) and not self._files.defines(config_id):
            raise Forbidden(f"{service} is a user or administrator in access.yaml, not a service; choose another name.")
        if access.speaks_for(caller, service):
            return
        for pointer in _IDENTITY:
            if documents.find(before, pointer) != documents.find(after, pointer):
                raise Forbidden(
                    f"{pointer} of {service} is part of its broker login; only {service} itself and administrators may "
                    "change it."
                )


def _check_names(planner: Planner, config_id: ConfigId, before: JsonObject, effective: Effective) -> None:
    """Raise an error if a write adds a member whose name is probably a misspelt one.

    Raises:
        ValidationFailed: With each of these members.
    """
    unknown = planner.written.unknown(*config_id, effective)
    added = [pointer for pointer in unknown if not documents.has(before, pointer)]
    meant = planner.written.near_misses(config_id.service, added)
    if meant:
        raise ValidationFailed(
            f"No schema knows these names of {config_id.service}. Correct them, or leave refuse_near_misses "
            "out if they are meant",
            [Problem(pointer, f"did you mean {place}?") for pointer, place in meant.items()],
        )


def replaced(config: JsonObject) -> RequestedConfiguration:
    """Return a whole configuration that a caller sent as what is wanted."""
    return RequestedConfiguration(config, lambda _base, _entry, sent: sent, form="config")


def restored(config: JsonObject) -> RequestedConfiguration:
    """Return a whole configuration from the store, its secrets sealed, as what is wanted."""
    return RequestedConfiguration(config, lambda _base, _entry, sent: sent, stored=True)


def without_sending(make: Callable[[JsonObject, Entry], JsonObject]) -> RequestedConfiguration:
    """Return what is made of files and overlay alone as what is wanted."""
    return RequestedConfiguration({}, lambda base, entry, _sent: make(base, entry))
