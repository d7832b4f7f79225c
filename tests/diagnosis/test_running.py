"""What is made of what a daemon says of itself."""

from typing import Any

import msgspec
import pytest

from aliciacfg.api.answers.refused_edits import RefusedEdit
from aliciacfg.diagnosis.running import look_at_access, look_at_health
from builders import health

HEALTHY = health()


def test_a_healthy_daemon_is_well():
    """Nothing has to be done."""
    found = [*look_at_health(HEALTHY, now=1000.5), look_at_access(HEALTHY, dev=False)]
    assert {finding.level for finding in found} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "about", "level"),
    [
        ({"status": "degraded"}, "daemon", "warn"),
        ({"status": "unhealthy"}, "daemon", "fail"),
        ({"mqtt_connected": False}, "daemon", "fail"),
        ({"refused_edits": [RefusedEdit(file="environments/dev.yaml", line=4)]}, "edits", "fail"),
        ({"alerts": {"store:slow": "A write takes long."}}, "alert", "warn"),
        ({"outbox_pending": 3}, "outbox", "warn"),
        ({"drift": 2}, "drift", "warn"),
        ({"timestamp": 900.0}, "clock", "fail"),
    ],
)
def test_each_trouble_has_a_line_with_what_to_do(changes: dict[str, Any], about: str, level: str):
    """Beside the others, which are well."""
    found = look_at_health(msgspec.structs.replace(HEALTHY, **changes), now=1000.0)
    wrong = [finding for finding in found if finding.level != "ok"]
    assert [(finding.about, finding.level) for finding in wrong] == [(about, level)]
    assert wrong[0].remedy


@pytest.mark.parametrize(
    ("kind", "dev", "level"),
    [
        ("acl_missing", False, "fail"),
        ("acl_missing", True, "warn"),
        ("access_closed", True, "fail"),
        ("open_access", False, "warn"),
        ("store", False, "ok"),
    ],
)
def test_access_that_is_not_as_the_rules_say(kind: str, dev: bool, level: str):
    """As the alerts of the daemon have it; the broker of ``serve --dev`` takes no list, which is no failure of it."""
    assert look_at_access(msgspec.structs.replace(HEALTHY, alerts={kind: "What to do."}), dev=dev).level == level
