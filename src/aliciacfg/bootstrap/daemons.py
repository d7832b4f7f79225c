"""The parts by which a daemon takes part in a home of several."""

import platform
import secrets
import time

from aliciacfg import __version__
from aliciacfg.bootstrap.parts import Parts, unless_revoked
from aliciacfg.core.file_marks import FileMarks
from aliciacfg.core.following import Following
from aliciacfg.core.others_changes import OthersChanges
from aliciacfg.core.reloads import Reloads
from aliciacfg.core.served_files import NOTE_FILE, ServedFiles
from aliciacfg.monitoring.instances import Instances
from aliciacfg.replicas.format_rise import FormatRise
from aliciacfg.replicas.leadership import Leadership
from aliciacfg.replicas.lease import Lease
from aliciacfg.replicas.membership import Membership
from aliciacfg.replicas.presence import Presence
from aliciacfg.replicas.readiness import Readiness, ReadinessCheck
from aliciacfg.replicas.registry import GONE_SECONDS, Registry
from aliciacfg.storage.data_directory import DataDirectory

_NAME_BYTES = 8
_RUN_BYTES = 4
# Of the data directory's instance, in the name of a daemon that was not given one.
_NAME_DIGITS = 4


def home_name(parts: Parts, data: DataDirectory) -> str:
    """Return what the bus knows the home by: its data directory, or the keys that all of its daemons share."""
    if parts.store.shared is None:
        return data.instance
    return parts.keyring.derive(b"aliciacfg home v1")[:_NAME_BYTES].hex()


def session_name(parts: Parts, data: DataDirectory) -> str:
    """Return the id of the home's MQTT session; secret."""
    return parts.keyring.derive(f"aliciacfg session v1 {home_name(parts, data)}".encode())[:_NAME_BYTES].hex()


def make_served_files(parts: Parts, data: DataDirectory) -> ServedFiles | None:
    """Return what serves a home of several daemons; None if the files on the disk do."""
    shared = parts.store.shared
    if shared is None:
        return None

    async def alone() -> bool:
        rows = await shared.replicas(within_seconds=GONE_SECONDS)
        return all(row.replica.partition(".")[0] == data.instance for row in rows)

    return ServedFiles(
        parts.source_files,
        parts.keyring,
        stored=parts.restored.served or None,
        note=data.path / NOTE_FILE,
        alone=alone,
        went_back=parts.went_back,
    )


def follow(parts: Parts, marks: FileMarks, served: ServedFiles, reloads: Reloads, instances: Instances) -> Following:
    """Have memory follow the other daemons that share the database."""
    parts.key_reloads.when_changed += [parts.views.forget, parts.cache.clear]
    following = Following(
        parts.store,
        parts.commits,
        OthersChanges(
            state=parts.state,
            files=parts.files,
            marks=marks,
            served=served,
            authorizer=parts.authorizer,
            instances=instances,
            outbox=parts.outbox,
            keyring=parts.keyring,
            known_token=lambda token: unless_revoked(token, parts.keys),
            reload_keys=parts.key_reloads.reload,
        ),
        served=served,
        follow_files=reloads.follow,
    )
    parts.key_reloads.when_changed.append(following.load_files_again)
    parts.commits.follow(following)
    parts.configurations.follow(following)
    parts.queue.follow(following.in_turn)
    parts.store.listen_others(following.deliver)
    return following


def make_presence(
    parts: Parts, data: DataDirectory, following: Following | None, served: ServedFiles | None
) -> Presence:
    """Return what the daemon is among those of its home."""
    settings, started = parts.settings, time.time()
    name = settings.replica or f"{platform.node() or 'daemon'}-{data.instance[:_NAME_DIGITS]}"
    # A process that was killed may still be listed: it is another one.
    replica = f"{data.instance}.{secrets.token_hex(_RUN_BYTES)}"
    if following is None:
        return Presence(
            name=name,
            replica=replica,
            version=__version__,
            started=started,
            leadership=Leadership.single(),
            readiness=Readiness(),
        )
    return Presence(
        name=name,
        replica=replica,
        version=__version__,
        started=started,
        leadership=Leadership(),
        readiness=Readiness(),
        behind_seconds=lambda: following.behind_seconds,
        commit=lambda: following.commit,
        files=served,
    )


def make_membership(parts: Parts, presence: Presence) -> Membership | None:
    """Return the daemon's part among several of its home; None if it serves the home alone."""
    shared = parts.store.shared
    if shared is None:
        return None
    registry = Registry(
        shared,
        presence.describe,
        replica=presence.replica,
        alerts=parts.alerts,
        leading=lambda: presence.leadership.leading,
    )
    format_rise = FormatRise(shared, registry, leading=lambda: presence.leadership.leading)
    presence.share(shared, registry, format_rise)
    lease = Lease(shared, presence.leadership, replica=presence.replica, may_lead=registry.may_lead)
    return Membership(
        lease=lease,
        registry=registry,
        format_rise=format_rise,
        readiness_check=ReadinessCheck(presence.readiness, lambda: presence.fault),
        others={"look at the keys": parts.key_reloads.run},
    )
