"""How services are, for those who look at many at a time: a part of the answer of ``list``."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from msgspec import UNSET

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers.configurations import InvalidService, ServiceStatus
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.state import State
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Record
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import Instances, Summary

_MAX_INVALID = 100
_NO_COPIES = Summary()


@dataclass(frozen=True, slots=True)
class StatusParts:
    """What a status is made of.

    Attributes:
        state: Has the active environment and the overlays.
        files: The files in force.
        authorizer: Decides who may write what.
        drift: Has the findings.
        instances: Have the reports of services.
        online: The services that have registered, and whether they are online.
    """

    state: State
    files: LoadedFiles
    authorizer: Authorizer
    drift: Drift
    instances: Instances
    online: Mapping[str, bool]


class Statuses:
    """The statuses in one environment, for one caller, at one moment."""

    def __init__(self, parts: StatusParts, caller: Caller, environment: str) -> None:
        self._parts = parts
        self._caller = caller
        self._environment = environment
        self._access = parts.authorizer.access
        sees_drift = self._access.decide(caller, "admin", operation="drift").allowed
        self._drift = Counter(item.service for item in parts.drift.items) if sees_drift else Counter[str | None]()
        self.active = environment == parts.state.active

    @property
    def protected(self) -> bool:
        """Whether a write in the environment needs ``expected_revision``."""
        sources = self._parts.files.sources
        found = None if sources is None else sources.environments.get(self._environment)
        return found is not None and found.protected

    def of(self, record: Record) -> ServiceStatus:
        """Return the status of a configuration."""
        parts, service = self._parts, record.service
        config_id = ConfigId(self._environment, service)
        copies = parts.instances.summary(service, current=record) if self.active else _NO_COPIES
        return ServiceStatus(
            author=record.author,
            cause=record.cause,
            comment=record.comment,
            breaking=record.breaking,
            changed_count=len(record.changed),
            overlay=bool(parts.state.committed(config_id).overlay),
            may_write=self._may_write(service),
            online=parts.online.get(service, UNSET),
            drift=self._drift[service],
            instances=copies.count,
            behind=copies.behind,
            restart_pending=copies.restart_pending,
            rejected=copies.rejected,
            problems=len(parts.files.problems_of(config_id)),
        )

    def invalid(self, sees: Callable[[str], bool]) -> list[InvalidService]:
        """Return the services that the files name and that have no configuration, at most 100.

        Args:
            sees: Whether a service may and has to be listed.
        """
        files, environment = self._parts.files, self._environment
        sources = files.sources
        found = None if sources is None else sources.environments.get(environment)
        lacking = files.lacking.get(environment, {})
        named = () if found is None else sorted(found.draft.services)
        missing = (service for service in named if sees(service) and self._has_none(service))
        return [
            InvalidService(
                service=service,
                environment=environment,
                problems=files.problems_of(ConfigId(environment, service)),
                missing=lacking.get(service, []),
                may_write=self._may_write(service),
            )
            for service in islice(missing, _MAX_INVALID)
        ]

    def _has_none(self, service: str) -> bool:
        return self._parts.state.committed(ConfigId(self._environment, service)).live is None

    def _may_write(self, service: str) -> bool:
        return self._access.allows(self._caller, "write", service)
