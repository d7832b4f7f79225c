"""Running copies of services: what they report, and which of them lag behind."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from aliciacfg.api.bus_messages import AppliedReport
from aliciacfg.model.records import Applied, Record
from aliciacfg.monitoring.alerts import Alert, Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import FORGOTTEN_SECONDS, Instances

GRACE = 30.0


class Home:
    """Instances of services whose configurations and clock the test sets."""

    def __init__(self, applied: Iterable[Applied] = ()) -> None:
        self.now = 1_000_000.0
        self.records: dict[str, Record] = {}
        self.alerted: list[Alert] = []
        alerts = Alerts(lambda: self.now)
        alerts.listen(self.alerted.append)
        self.drift = Drift(alerts, lambda: self.now)
        self.instances = Instances(
            applied, current=self.records.get, drift=self.drift, grace_seconds=GRACE, clock=lambda: self.now
        )

    def record(self, service: str, revision: int, environment: str = "dev", *, age: float = 0.0) -> None:
        self.records[service] = Record(
            environment=environment, service=service, revision=revision, version="1.0.0", timestamp=self.now - age,
            author="a", cause="api", checksum=f"{environment} {revision}", digest="", changed=[], restart_required=[],
            config=b"{}",
        )  # fmt: skip
        self.instances.look_again([service])

    def report(self, instance: str = "first", *, service: str = "one", **fields: Any) -> bool:
        """Whether the report has to be written down."""
        report: dict[str, Any] = {"instance": instance, "revision": 1, "checksum": "", "status": "applied", **fields}
        return self.instances.report(service, msgspec.convert(report, AppliedReport)) is not None

    def found(self, after: float = 0.0) -> dict[str, str]:
        """What a look finds so many seconds later."""
        self.now += after
        self.instances.check()
        return {item.subject: item.message for item in self.drift.items}


@pytest.fixture
def home() -> Home:
    made = Home()
    made.record("one", 1)
    return made


def test_a_copy_that_lags_is_drift_after_its_grace_and_no_longer_once_it_caught_up(home: Home):
    """A lagging instance is reported once, with its service and what to check."""
    home.report()
    assert home.found() == {}
    home.record("one", 2)
    assert home.found() == {}
    assert home.found(GRACE - 1) == {}
    (message,) = home.found(2).values()
    assert message.startswith("one 'first' runs revision 1, not 2; is it alive, and does it read updates?")
    home.found(100)
    assert [(alert.kind, alert.service) for alert in home.alerted] == [("drift", "one")]
    home.report(revision=2, checksum="dev 2")
    assert home.found() == {}
    (item,) = home.instances.of("one", current=home.records["one"])
    assert (item.current, item.revision, item.since, item.last_seen) == (True, 2, home.now, home.now)


def test_a_rejection_is_drift_at_once_and_says_why(home: Home):
    """A rejected revision is reported at once; a newer revision starts a new grace period."""
    home.record("one", 2)
    home.report(revision=2, status="rejected", error="port in use")
    assert home.found() == {"one/first": "one 'first' rejected revision 2: port in use"}
    home.record("one", 3)
    assert home.found() == {}
    assert "runs revision 2, not 3" in home.found(GRACE + 1)["one/first"]


def test_a_copy_that_waits_for_its_restart_is_drift_when_that_takes_long(home: Home):
    """A copy that has to restart is reported after the grace period."""
    home.record("one", 2)
    home.report(revision=2, checksum="dev 2", status="restart_pending")
    assert home.found() == {}
    assert "has to be restarted" in home.found(GRACE + 1)["one/first"]
    home.report(revision=2, checksum="dev 2")
    assert home.found() == {}


def test_another_content_under_the_right_number_is_drift(home: Home):
    """A copy with the right revision but another checksum is reported."""
    home.report(checksum="something else")
    home.found()
    assert "its checksum differs" in home.found(GRACE + 1)["one/first"]


def test_an_activation_gives_every_copy_its_time(home: Home):
    """The grace period starts when the environment changes, even if the other revision has the same number."""
    home.report(checksum="dev 1")
    assert home.found(1000) == {}
    home.record("one", 1, "prod", age=5000)
    assert home.found() == {}
    assert home.found(GRACE - 1) == {}
    home.report(checksum="prod 1")
    assert home.found(2 * GRACE) == {}
    home.record("one", 1, "dev", age=9000)
    home.found()
    assert home.found(GRACE + 1) != {}


def test_a_copy_without_checksums_has_to_report_again_after_an_activation(home: Home):
    """A repeated report counts for the environment that is active now."""
    home.report()
    home.found()
    home.record("one", 1, "prod")
    home.found()
    assert home.report()
    assert home.found(GRACE + 1) == {}


def test_a_copy_that_has_just_come_begins_with_what_it_remembers(home: Home):
    """A start from an old snapshot is no drift until the grace is over."""
    home.record("one", 5, age=10_000)
    home.found(1000)
    home.report(revision=3)
    assert home.found() == {}
    assert home.found(GRACE + 1) != {}


def test_a_copy_not_heard_of_for_a_day_is_not_counted(home: Home):
    """A copy that stopped reporting is listed with its last report, and is no longer drift."""
    home.report()
    home.record("one", 2)
    home.found()
    assert home.found(GRACE + 1) != {}
    assert home.found(FORGOTTEN_SECONDS) == {}
    assert [item.instance for item in home.instances.of("one", current=home.records["one"])] == ["first"]


def test_a_goodbye_forgets_the_copies_of_a_service(home: Home):
    """In memory, in the store, and as drift; those of others stay."""
    home.record("two", 1)
    home.report()
    home.report("second")
    home.report(service="two")
    home.record("one", 2)
    home.found()
    assert len(home.found(GRACE + 1)) == 2
    write = home.instances.forget("one")
    assert write is not None
    assert [item.instance for item in write.forgotten] == ["first", "second"]
    assert home.found() == {}
    assert home.instances.forget("one") is None
    assert len(home.instances.of("two", current=home.records["two"])) == 1


def test_the_same_report_again_is_written_once_a_minute(home: Home):
    """When a copy was last seen is known all the same; since when it runs what it runs stays."""
    assert home.report()
    began = home.now
    written = 0
    for _ in range(24):
        home.now += 5
        written += home.report()
        (item,) = home.instances.of("one", current=home.records["one"])
        assert (item.since, item.last_seen) == (began, home.now)
    assert written == 2
    assert home.report(status="restart_pending")


def test_a_service_has_a_bounded_number_of_copies(home: Home):
    """Those seen least recently go, from the store too; a service without a configuration has none."""
    for number in range(100):
        home.now += 1
        home.report(f"copy {number}")
    listed = [item.instance for item in home.instances.of("one", current=home.records["one"])]
    assert len(listed) == 64
    assert set(listed) == {f"copy {number}" for number in range(36, 100)}
    write = home.instances.report("one", AppliedReport(instance="new", revision=1, checksum="", status="applied"))
    assert write is not None
    assert [item.instance for item in write.forgotten] == ["copy 36"]
    assert not home.report(service="unknown")
    del home.records["one"]
    assert home.found(1000) == {}


def test_what_the_store_has_goes_on_over_a_restart():
    """A copy that lagged lags again once the grace is over; one that runs the right thing does not."""
    stored = [
        Applied("one", "late", "dev", 1, "dev 1", "applied", None, since=900_000.0, last_seen=999_990.0),
        Applied("one", "right", "dev", 2, "dev 2", "applied", None, since=900_000.0, last_seen=999_990.0),
    ]
    home = Home(stored)
    home.record("one", 2, age=100_000)
    assert home.found() == {}
    assert set(home.found(GRACE + 1)) == {"one/late"}
    assert [item.since for item in home.instances.of("one", current=home.records["one"])] == [900_000.0] * 2


def test_only_what_may_lag_is_looked_at(home: Home):
    """Services whose copies run the right revision cost nothing until one reports, or the revision changes."""
    looked_at: list[str] = []
    records = home.records

    def current(service: str) -> Record | None:
        looked_at.append(service)
        return records.get(service)

    home.instances = Instances((), current=current, drift=home.drift, grace_seconds=GRACE, clock=lambda: home.now)
    for service in ("one", "two", "three"):
        home.record(service, 1)
        home.report(service=service)
    home.found()
    looked_at.clear()
    assert (home.found(), looked_at) == ({}, [])
    home.record("two", 2)
    home.found()
    assert (set(home.found(GRACE + 1)), set(looked_at)) == ({"two/first"}, {"two"})
    home.instances.look_again(None)
    home.found()
    assert set(looked_at) == {"one", "two", "three"}


def test_a_report_tells_about_its_own_service_at_once(home: Home):
    """A rejection is drift and a correction ends it, without a look at other services."""
    home.record("two", 1)
    home.report(service="two", status="rejected", error="port in use")
    home.report(status="rejected", error="disk full")
    home.instances.check_service("one")
    assert [item.subject for item in home.drift.items] == ["one/first"]
    home.report()
    home.instances.check_service("one")
    home.instances.check_service("unknown")
    assert home.drift.items == []
    assert set(home.found()) == {"two/first"}
