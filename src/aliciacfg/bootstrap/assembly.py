"""Makes the parts of the core from those that are made first."""

import time
from collections.abc import Iterable

from aliciacfg.bootstrap.core import Core
from aliciacfg.bootstrap.daemons import (
    follow,
    home_name,
    make_membership,
    make_presence,
    make_served_files,
    session_name,
)
from aliciacfg.bootstrap.operations import make_service
from aliciacfg.bootstrap.parts import Parts
from aliciacfg.core.announcements import Announcements
from aliciacfg.core.drift_checks import DriftChecks
from aliciacfg.core.file_marks import FileMarks
from aliciacfg.core.key_rotation import KeyRotation
from aliciacfg.core.load_planner import LoadPlanner
from aliciacfg.core.load_reports import LoadReports
from aliciacfg.core.order import Order
from aliciacfg.core.plain_secrets import PlainSecrets
from aliciacfg.core.plan import Plan
from aliciacfg.core.planner import PlannerFactory
from aliciacfg.core.reloads import Reloads
from aliciacfg.core.restore import ACTIVE
from aliciacfg.core.retention import Retention
from aliciacfg.core.served_files import ServedFiles
from aliciacfg.core.vanished_files import VanishedFiles
from aliciacfg.model.config_id import ConfigId
from aliciacfg.monitoring.instances import Instances
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.storage.data_directory import DataDirectory


def assemble(parts: Parts, data: DataDirectory) -> Core:
    """Make the core, which listens to its commits but has not loaded any file."""
    data.name_home(None if parts.store.shared is None else home_name(parts, data))
    marks = FileMarks(
        files=parts.files,
        authorizer=parts.authorizer,
        rules=parts.restored.rules,
        history_sealed=parts.restored.history_sealed,
    )
    served = make_served_files(parts, data)
    reloads, announcements = _reloads(parts, marks, served), _announcements(parts)
    instances = Instances(
        parts.applied,
        current=lambda service: parts.state.committed(ConfigId(parts.state.active, service)).live,
        drift=parts.drift,
        grace_seconds=parts.settings.apply_grace_seconds,
        clock=time.time,
    )
    _listen(parts, reloads, instances)
    following = None if served is None else follow(parts, marks, served, reloads, instances)
    key_rotation = _key_rotation(parts, reloads, announcements)
    presence = make_presence(parts, data, following, served)
    drift_checks = DriftChecks(
        files=parts.files,
        reloads=reloads,
        store=parts.store,
        condition=parts.condition,
        alerts=parts.alerts,
        drift=parts.drift,
        instances=instances,
        dropped=parts.restored.dropped,
        rows=None if served is None else lambda: [] if presence.registry is None else presence.registry.live,
    )
    service = make_service(
        parts, reloads, announcements, key_rotation, instances, presence, data, following, verify=drift_checks.verify
    )
    presence.connected = lambda: service.health.bus_connected
    return Core(
        alerts=parts.alerts,
        supervisor=Supervisor(parts.alerts),
        drift=parts.drift,
        instances=instances,
        restored=parts.restored,
        state=parts.state,
        source_files=parts.source_files,
        served=served,
        files=parts.files,
        outbox=parts.outbox,
        announcements=announcements,
        order=Order(
            state=parts.state,
            outbox=parts.outbox,
            announcements=announcements,
            commits=parts.commits,
            chain=parts.chain,
            alerts=parts.alerts,
            clock=time.time,
        ),
        cache=parts.cache,
        configurations=parts.configurations,
        commits=parts.commits,
        reloads=reloads,
        retention=_retention(parts),
        scrubbing=parts.scrubbing,
        store=parts.store,
        condition=parts.condition,
        queue=parts.queue,
        audit_log=parts.audit_log,
        drift_checks=drift_checks,
        key_rotation=key_rotation,
        following=following,
        service=service,
        leadership=presence.leadership,
        readiness=presence.readiness,
        presence=presence,
        membership=make_membership(parts, presence),
        session=session_name(parts, data),
        home_key=parts.keyring.derive(b"aliciacfg daemons v1"),
    )


def _listen(parts: Parts, reloads: Reloads, instances: Instances) -> None:
    """Register what applies a durable plan; files, views and cache come before the waiters, who read them."""
    parts.files.when_refused.append(parts.cache.clear)
    parts.commits.listen(
        parts.files.on_commit,
        parts.views.on_commit,
        parts.cache.on_commit,
        parts.waiters.on_commit,
        parts.change_log.on_commit,
        reloads.on_commit,
        lambda plan: parts.outbox.add(plan.announcements),
        lambda plan: instances.look_again(_services_with_other_revisions(plan)),
    )


def _services_with_other_revisions(plan: Plan) -> Iterable[str] | None:
    """Return the services that may have another revision in the active environment after a plan; None for all."""
    moved = plan.activates is not None or ACTIVE in plan.meta
    return None if moved else (config_id.service for config_id in plan.entries)


def _reloads(parts: Parts, marks: FileMarks, served: ServedFiles | None) -> Reloads:
    settings = parts.settings
    planners = PlannerFactory(
        keyring=parts.keyring,
        chain=parts.chain,
        views=parts.views,
        outbox=parts.outbox,
        clock=time.time,
        limits=settings.document_limits,
    )
    return Reloads(
        source_files=parts.source_files,
        planner=LoadPlanner(
            planners=planners,
            files=parts.files,
            state=parts.state,
            commits=parts.commits,
            plain_secrets=PlainSecrets(parts.store, parts.keyring),
        ),
        marks=marks,
        reports=LoadReports(alerts=parts.alerts, state=parts.state),
        files=parts.files,
        state=parts.state,
        commits=parts.commits,
        scrubbing=parts.scrubbing,
        authorizer=parts.authorizer,
        vanished=VanishedFiles(seconds=settings.vanished_file_seconds),
        served=served,
    )


def _retention(parts: Parts) -> Retention:
    settings = parts.settings
    return Retention(
        parts.store,
        parts.audit_log,
        history_keep=settings.history_keep,
        history_days=settings.history_days,
        audit_keep=settings.audit_keep,
        audit_days=settings.audit_days,
        clock=time.time,
    )


def _announcements(parts: Parts) -> Announcements:
    return Announcements(
        state=parts.state,
        outbox=parts.outbox,
        views=parts.views,
        commits=parts.commits,
        queue=parts.queue,
        keyring=parts.keyring,
        clock=time.time,
    )


def _key_rotation(parts: Parts, reloads: Reloads, announcements: Announcements) -> KeyRotation:
    return KeyRotation(
        state=parts.state,
        files=parts.files,
        commits=parts.commits,
        views=parts.views,
        cache=parts.cache,
        announcements=announcements,
        reloads=reloads,
        store=parts.store,
        scrubbing=parts.scrubbing,
        keyring=parts.keyring,
        clock=time.time,
    )
