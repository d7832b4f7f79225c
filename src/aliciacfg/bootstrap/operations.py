"""The parts that carry out operations."""

import time
from collections.abc import Awaitable, Callable

from aliciacfg import __version__
from aliciacfg.bootstrap.daemons import home_name
from aliciacfg.bootstrap.parts import Parts
from aliciacfg.core.activation import Activation
from aliciacfg.core.announcements import Announcements
from aliciacfg.core.following import Following
from aliciacfg.core.key_rotation import KeyRotation
from aliciacfg.core.reloads import Reloads
from aliciacfg.monitoring.instances import Instances
from aliciacfg.monitoring.metrics import Metrics
from aliciacfg.operations.admin import AdminOperations
from aliciacfg.operations.batch import BatchOperation
from aliciacfg.operations.environment_changes import EnvironmentOperations
from aliciacfg.operations.environment_reads import EnvironmentReads
from aliciacfg.operations.event_feed import EventFeed
from aliciacfg.operations.event_states import FeedParts
from aliciacfg.operations.health import Health
from aliciacfg.operations.identity import Identity
from aliciacfg.operations.ledger import Ledger
from aliciacfg.operations.reads import ReadOperations, ReadParts
from aliciacfg.operations.registrations import Registrations
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import BY_NAME
from aliciacfg.operations.write_answers import WriteAnswers
from aliciacfg.operations.write_planner import WritePlanner
from aliciacfg.operations.writes import WriteOperations
from aliciacfg.replicas.presence import Presence
from aliciacfg.storage.data_directory import DataDirectory

# A database that nothing was read from for so long stands still.
_STANDS_STILL_SECONDS = 5.0


def make_service(
    parts: Parts,
    reloads: Reloads,
    announcements: Announcements,
    key_rotation: KeyRotation,
    instances: Instances,
    presence: Presence,
    data: DataDirectory,
    following: Following | None,
    *,
    verify: Callable[[], Awaitable[None]],
) -> ConfigService:
    """Make the operations, and the health that they count in."""
    health = _health(parts, reloads, presence, home_name(parts, data))
    write_planner = WritePlanner(
        configurations=parts.configurations,
        files=parts.files,
        views=parts.views,
        authorizer=parts.authorizer,
        audit_log=parts.audit_log,
        alerts=parts.alerts,
        count_invalid=health.count_invalid,
        shared=following is not None,
    )
    answers = WriteAnswers(parts.state, parts.views, broker_away=lambda: health.broker_away)
    writes = _writes(parts, write_planner, answers)
    return ConfigService(
        authorizer=parts.authorizer,
        audit_log=parts.audit_log,
        reads=_reads(parts, instances, health, following),
        environment_reads=EnvironmentReads(
            configurations=parts.configurations,
            state=parts.state,
            files=parts.files,
            drafts=parts.drafts,
            authorizer=parts.authorizer,
        ),
        writes=writes,
        batches=_batches(parts, write_planner, answers),
        environments=EnvironmentOperations(
            state=parts.state,
            activation=_activation(parts, announcements),
            reloads=reloads,
            presence=presence,
            broker_away=lambda: health.broker_away,
        ),
        admin=_admin(parts, key_rotation, verify, data),
        health=health,
        identity=Identity(authorizer=parts.authorizer, state=parts.state, files=parts.files),
        registrations=Registrations(
            configurations=parts.configurations,
            state=parts.state,
            outbox=parts.outbox,
            queue=parts.queue,
            instances=instances,
            health=health,
            writes=writes,
        ),
        events=_events(parts, instances, health),
        following=following,
        ledger=None if following is None else _ledger(parts, following),
    )


def _ledger(parts: Parts, following: Following) -> Ledger | None:
    """Return the answers to writes, which the daemons of a home keep for each other."""

    def stands_still() -> bool:
        return parts.condition.has("hung") or following.behind_seconds > _STANDS_STILL_SECONDS

    shared = parts.store.shared
    return None if shared is None else Ledger(shared, parts.keyring.derive(b"aliciacfg answers v1"), stands_still)


def _events(parts: Parts, instances: Instances, health: Health) -> EventFeed:
    feed = EventFeed(
        FeedParts(
            state=parts.state,
            log=parts.change_log,
            authorizer=parts.authorizer,
            queue=parts.queue,
            files=parts.files,
            drift=parts.drift,
            instances=instances,
            health=health,
        ),
        most=parts.settings.max_event_streams,
    )
    health.count_streams = lambda: feed.count
    return feed


def _health(parts: Parts, reloads: Reloads, presence: Presence, instance: str) -> Health:
    return Health(
        state=parts.state,
        commits=parts.commits,
        reloads=reloads,
        files=parts.files,
        cache=parts.cache,
        outbox=parts.outbox,
        store=parts.condition,
        alerts=parts.alerts,
        drift=parts.drift,
        metrics=Metrics(operations=BY_NAME, version=__version__),
        presence=presence,
        instance=instance,
        clock=time.time,
    )


def _reads(parts: Parts, instances: Instances, health: Health, following: Following | None) -> ReadOperations:
    return ReadOperations(
        ReadParts(
            configurations=parts.configurations,
            state=parts.state,
            files=parts.files,
            views=parts.views,
            cache=parts.cache,
            waiters=parts.waiters,
            authorizer=parts.authorizer,
            audit_log=parts.audit_log,
            instances=instances,
            drift=parts.drift,
            count_read=health.metrics.accessed,
            online=health.services_online,
            following=following,
        )
    )


def _writes(parts: Parts, planner: WritePlanner, answers: WriteAnswers) -> WriteOperations:
    return WriteOperations(
        configurations=parts.configurations,
        state=parts.state,
        files=parts.files,
        views=parts.views,
        commits=parts.commits,
        planner=planner,
        answers=answers,
        authorizer=parts.authorizer,
    )


def _batches(parts: Parts, planner: WritePlanner, answers: WriteAnswers) -> BatchOperation:
    return BatchOperation(
        configurations=parts.configurations,
        commits=parts.commits,
        planner=planner,
        answers=answers,
        authorizer=parts.authorizer,
        audit_log=parts.audit_log,
    )


def _activation(parts: Parts, announcements: Announcements) -> Activation:
    return Activation(
        state=parts.state,
        files=parts.files,
        drafts=parts.drafts,
        configurations=parts.configurations,
        commits=parts.commits,
        outbox=parts.outbox,
        announcements=announcements,
        clock=time.time,
    )


def _admin(
    parts: Parts, key_rotation: KeyRotation, verify: Callable[[], Awaitable[None]], data: DataDirectory
) -> AdminOperations:
    return AdminOperations(
        configurations=parts.configurations,
        state=parts.state,
        files=parts.files,
        queue=parts.queue,
        store=parts.store,
        authorizer=parts.authorizer,
        audit_log=parts.audit_log,
        alerts=parts.alerts,
        keys=parts.keys,
        key_rotation=key_rotation,
        verify=verify,
        make_snapshot_directory=data.make_snapshot_directory,
        clock=time.time,
    )
