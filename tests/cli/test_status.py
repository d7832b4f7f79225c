"""The one screen of ``status``."""

import msgspec
import pytest

from aliciacfg.api.answers.health import HealthAnswer, OtherReplica, OwnReplica
from aliciacfg.api.answers.refused_edits import RefusedEdit
from aliciacfg.cli import output, status
from aliciacfg.cli.output import Line
from aliciacfg.cli.status import Status
from builders import health

MESSAGE = (
    "An edit of the files is refused, and what was in force before is served: environments/dev.yaml:14: door_bell "
    "/settings/volume_percent: found 300; expected at most 100"
)


def degraded(**alerts: str) -> HealthAnswer:
    return health(status="degraded", instance="0" * 16, timestamp=0.0, uptime=1.0, alerts=alerts)


def text(line: Line) -> str:
    return "".join(part if isinstance(part, str) else part[0] for part in line)


@pytest.mark.parametrize("columns", [80, 140])
def test_an_alert_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch, columns: int):
    """It takes more than one line where it has to, below its label; no line is wider than the terminal."""
    monkeypatch.setattr(output, "width", lambda: columns)
    lines = [text(line) for line in status._status_lines(Status(degraded(validation_failed=MESSAGE)), 0.0)]
    assert max(map(len, lines)) <= columns
    words = " ".join(" ".join(lines).split())
    assert f"Alerts validation_failed: {MESSAGE}" in words


def test_who_may_read_health_only_sees_that(monkeypatch: pytest.MonkeyPatch):
    """Anything else is left out, not an error."""
    monkeypatch.setattr(output, "width", lambda: 80)
    found = msgspec.structs.replace(degraded(), drift=2, outbox_pending=1, uptime=93784.0)
    lines = [text(line) for line in status._status_lines(Status(found), 1000.0)]
    assert lines[0].startswith("Config service  degraded  1.0.0, up 1 d 2 h")
    assert [line.split() for line in lines if line.startswith("Drift")] == [["Drift", "2"]]
    assert any("1 message waits" in line for line in lines)
    assert not any(line.startswith("Last changes") for line in lines)


def test_an_activation_is_a_change_and_a_refused_edit_is_told_once(monkeypatch: pytest.MonkeyPatch):
    """The alert about the edit would only say the same again."""
    monkeypatch.setattr(output, "width", lambda: 140)
    edit = RefusedEdit(file="environments/dev.yaml", line=14, message="found 300")
    answered = msgspec.structs.replace(degraded(validation_failed=MESSAGE), refused_edits=[edit])
    found = Status(answered, changes=[], activated=status.Activated("prod", "alice", 940.0))
    lines = [text(line) for line in status._status_lines(found, 1000.0)]
    assert lines[-1] == "Last changes    1 min ago   prod activated by alice"
    assert [line.split()[1] for line in lines if line.startswith(("Refused", "Alerts"))] == ["edits", "none"]


@pytest.mark.parametrize(
    ("seconds", "span"), [(0.2, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7200, "2 h"), (93784, "1 d 2 h")]
)
def test_a_span_has_its_two_largest_units(seconds: float, span: str):
    """A unit without a count is left out."""
    assert status._span(seconds) == span


def test_on_a_narrow_terminal_nothing_is_cut(monkeypatch: pytest.MonkeyPatch):
    """What counts stands below its label, folded between words."""
    monkeypatch.setattr(output, "width", lambda: 30)
    lines = [text(line) for line in status._status_lines(Status(degraded(validation_failed=MESSAGE)), 0.0)]
    assert lines[:3] == ["Config service", "  degraded", "  1.0.0, up 1 s, instance"]
    assert not any("…" in line for line in lines)
    assert f"Alerts validation_failed: {MESSAGE}" in " ".join(" ".join(lines).split())


def test_several_daemons_have_a_line(monkeypatch: pytest.MonkeyPatch):
    """Who leads, and which of them are not as they should be; one alone has none."""
    monkeypatch.setattr(output, "width", lambda: 80)

    def screen(found: HealthAnswer) -> list[str]:
        return [text(line) for line in status._status_lines(Status(found), 0.0)]

    assert not any(line.startswith("Daemons") for line in screen(degraded()))
    own = OwnReplica(name="a", role="follower", ready=True, lag_seconds=0.1, leader="b")
    replicas = [
        OtherReplica(name="a", role="follower", state="ready"),
        OtherReplica(name="b", role="leader", state="not_ready"),
        OtherReplica(name="c", role="follower", state="gone"),
    ]
    shared = msgspec.structs.replace(degraded(), replica=own, replicas=replicas)
    assert "Daemons         3, b leads; b not ready, c gone" in screen(shared)
    leaderless = msgspec.structs.replace(own, leader=None)
    alone = msgspec.structs.replace(shared, replica=leaderless, replicas=replicas[:1])
    assert "Daemons         1, none leads" in screen(alone)
