"""What running services report, drift, and alerts."""

import msgspec

from aliciacfg.api.fields import Revision, Timestamp
from aliciacfg.errors import Problem
from aliciacfg.model.records import AppliedStatus, DriftKind


class InstanceItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last report of a running copy of a service.

    Attributes:
        instance: The name of the copy.
        revision: The revision that it runs.
        checksum: The checksum of the configuration that it runs.
        status: The status that it reported.
        since: The time of the first report of this revision and status.
        last_seen: The time of the last report.
        current: Whether it runs the current revision of the active environment.
        error: The reason why it rejected a revision.
    """

    instance: str
    revision: Revision
    checksum: str
    status: AppliedStatus
    since: Timestamp
    last_seen: Timestamp
    current: bool
    error: str | None = None


class InstancesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``instances``: the running copies of a service, by name."""

    service: str
    environment: str
    revision: Revision
    instances: list[InstanceItem]


class DriftItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A difference from the state in the store.

    Attributes:
        kind: ``retained``, ``file``, ``row`` or ``instance``.
        subject: The topic, file, row, or ``<service>/<instance>`` that differs.
        message: What was found and what to do.
        since: The time when it was found.
        service: The service concerned, if there is one.
    """

    kind: DriftKind
    subject: str
    message: str
    since: Timestamp
    service: str | None = None


class DriftAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``drift``: the differences now, and the number of each kind found since the start."""

    drift: list[DriftItem]
    found: dict[str, int]


class AlertItem(msgspec.Struct, frozen=True, kw_only=True):
    """The condition of an alert that is not over.

    Attributes:
        name: Its key in ``alerts`` of ``health``: the kind, and what distinguishes several of one kind.
        kind: The kind.
        message: What happened and what to do.
        since: Since when it is so.
        service: The service concerned, if there is one.
        problems: Details, each with its place.
    """

    name: str
    kind: str
    message: str
    since: Timestamp
    service: str | None
    problems: list[Problem]


class AlertsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``alerts``: the conditions that are not over, the oldest first."""

    alerts: list[AlertItem]
