"""What a running daemon says of itself."""

from collections.abc import Iterator
from typing import Final

from aliciacfg.api.answers.health import HealthAnswer
from aliciacfg.counted import counted
from aliciacfg.diagnosis.finding import Finding, fail, ok, warn

_CLOCK_SECONDS = 2.0
# Those that other findings are about already.
_KNOWN: Final = frozenset({"validation_failed", "open_access", "acl_missing", "access_closed"})


def look_at_health(health: HealthAnswer, *, now: float) -> Iterator[Finding]:
    """Check the health of a daemon.

    Args:
        health: What it answered just now.
        now: This machine's clock, Unix seconds.
    """
    said = f"version {health.version}, instance {health.instance}, environment {health.environment}"
    if health.status == "healthy":
        yield ok("daemon", f"healthy; {said}")
    else:
        level = fail if health.status == "unhealthy" else warn
        yield level("daemon", f"{health.status}; {said}", "see the lines below")
    if not health.mqtt_connected:
        yield fail("daemon", "it is not connected to the broker", "see broker; it tries again by itself")
    for edit in health.refused_edits:
        place = edit.file if edit.line is None else f"{edit.file}:{edit.line}"
        yield fail("edits", f"{place} is not in force: it was refused", "see why: aliciacfg environments")
    for kind, message in health.alerts.items():
        if kind.partition(":")[0] not in _KNOWN:
            yield warn("alert", f"{kind}: {message}", "do what it says; `aliciacfg health` shows when it is over")
    if health.outbox_pending and health.mqtt_connected:
        waiting = counted(health.outbox_pending, "update")
        yield warn("outbox", f"not at the broker yet: {waiting}", "look again in a minute")
    if health.drift:
        yield warn("drift", f"{counted(health.drift, 'difference')} from the store", "see them: aliciacfg drift")
    away = health.timestamp - now
    if abs(away) > _CLOCK_SECONDS:
        where = "behind" if away > 0 else "ahead of"
        yield fail("clock", f"this machine is {abs(away):.0f} s {where} the daemon's", "set both clocks (NTP)")
    else:
        yield ok("clock", "this machine and the daemon agree")


def look_at_access(health: HealthAnswer, *, dev: bool) -> Finding:
    """Check whether access rules are in force, as a daemon says it.

    Args:
        health: What it answered just now.
        dev: Whether it uses the broker of ``serve --dev``, which takes no access list.
    """
    kinds = {kind.partition(":")[0]: message for kind, message in health.alerts.items()}
    if dev and "acl_missing" in kinds and "access_closed" not in kinds:
        return warn(
            "access",
            "the broker of `serve --dev` proves no caller: over MQTT, requests only read, and see no secrets",
            "use HTTP with a token: ALICIACFG_TOKEN=… aliciacfg --http URL …",
        )
    for kind in ("access_closed", "acl_missing"):
        if kind in kinds:
            return fail("access", kinds[kind], "`aliciacfg setup DIRECTORY` writes the list")
    if "open_access" in kinds:
        return warn("access", kinds["open_access"], "write environments/access.yaml, or make a token")
    return ok("access", "nothing is open that rules close")
