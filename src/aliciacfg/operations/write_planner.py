"""Planning of writes: conditions, redacted secrets, validation, and protection of broker logins."""

from collections.abc import Callable
from dataclasses import dataclass

from aliciacfg import documents
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
from aliciacfg.errors import Conflict, Forbidden, NotFound, ValidationFailed
from aliciacfg.model.config_id import ConfigId
from aliciacfg.monitoring.alerts import Alerts

# A service logs in to the broker with these members, and by its login the broker proves the name of a requester.
_IDENTITY = tuple(f"/mqtt_config/{name}" for name in ("username", "password", "host", "port", "tls_enabled"))

Wanted = Callable[[JsonObject, Entry], JsonObject]
"""Returns the wanted configuration, from the merged layers of the files and the current entry."""


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
        alerts: Alerts,
        count_invalid: Callable[[], None],
    ) -> None:
        self._configurations = configurations
        self._files = files
        self._views = views
        self._authorizer = authorizer
        self._alerts = alerts
        self._count_invalid = count_invalid

    def plan(
        self,
        plan: Plan,
        config_id: ConfigId,
        caller: Caller,
        request: WriteRequest,
        wanted: Wanted,
        *,
        refuse_breaking: bool = True,
    ) -> PlannedChange:
        """Add to a plan what makes ``wanted`` the configuration; add nothing if it is refused.

        Args:
            plan: The plan.
            config_id: The configuration.
            caller: The author.
            request: Has the conditions.
            wanted: Returns the wanted configuration.
            refuse_breaking: Refuse a change that breaks readers, unless the request has ``allow_breaking``.

        Raises:
            OperationError: The write is refused.
        """
        planner = self._files.planner(config_id.environment)
        entry = plan.head(config_id)
        self.check_conditions(config_id, entry, request.expected_revision)
        self._configurations.check_room(config_id, plan)
        base = planner.composer.base(config_id.environment, config_id.service)
        base = {name: value for name, value in base.items() if name != "version"}
        stored = plan.context.cause == "rollback"
        effective = self._checked(
            planner, config_id, entry, wanted(base, entry), dry_run=request.dry_run, stored=stored
        )
        self._check_identity(caller, config_id, planner.document(entry) or base, effective.document)
        overlay: JsonObject | None = planner.composer.overlay(base, effective)
        if not overlay and self._files.defines(config_id):
            overlay = None
        after = planner.change(
            plan,
            config_id,
            effective=effective,
            overlay=overlay,
            refuse_breaking=refuse_breaking and not request.allow_breaking,
        )
        return PlannedChange(planner, entry, after, effective, plan.redacted.get(config_id))

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
        message = (
            f"{environment} is protected: a write needs expected_revision. Send expected_revision {entry.revision} if "
            "you have seen that revision."
            if expected_revision is None
            else f"{service} in {environment} is at revision {entry.revision}, not {expected_revision}; "
            "get it again and redo the change."
        )
        raise Conflict(message, revision=entry.revision, checksum=entry.live.checksum if entry.live else "")

    def compose(
        self, planner: Planner, config_id: ConfigId, entry: Entry, config: JsonObject, *, stored: bool = False
    ) -> Effective:
        """Return the checked configuration that a caller sends, with sealed values opened and kept secrets filled in.

        Args:
            planner: Of the files in force.
            config_id: The configuration.
            entry: Its head.
            config: The document that was sent.
            stored: The document comes from the store, where a sealed value is a secret whatever the schema says now.

        Raises:
            ValidationFailed: It is invalid; lists everything.
            TooLarge: It is larger than allowed.
        """
        # Before anything walks the document.
        planner.composer.check_count(config_id.service, config)
        return planner.composer.check_written(
            config_id.environment,
            config_id.service,
            self._views.kept(config, entry.live),
            current=entry.effective,
            overlay=entry.overlay,
            kept=planner.secrets(entry),
            stored=stored,
        )

    def patched(self, config_id: ConfigId, patch: JsonObject) -> Wanted:
        """Return a function that applies a merge patch to the effective configuration.

        If nothing is stored because the configuration from the files is invalid, it applies the patch to that.
        """

        def wanted(base: JsonObject, entry: Entry) -> JsonObject:
            if entry.effective is not None:
                return documents.merge(entry.effective.document, patch)
            if entry.live is None and self._files.defines(config_id):
                return documents.merge(base, patch)
            raise NotFound(
                f"There is no usable configuration of {config_id.service} to patch; send a whole one with set."
            )

        return wanted

    def _checked(
        self,
        planner: Planner,
        config_id: ConfigId,
        entry: Entry,
        config: JsonObject,
        *,
        dry_run: bool,
        stored: bool,
    ) -> Effective:
        """Validate a configuration; count an invalid one and raise an alert, unless it is a dry run."""
        try:
            return self.compose(planner, config_id, entry, config, stored=stored)
        except ValidationFailed as error:
            if not dry_run:
                self._count_invalid()
                self._alerts.emit(
                    "validation_failed", error.message, service=config_id.service, problems=error.problems
                )
            raise

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


def replaced(config: JsonObject) -> Wanted:
    """Return a function that replaces the whole configuration."""
    return lambda _base, _entry: config
