"""From a wanted change to what has to be written, without a store, a bus or a file."""

import json
from typing import Any, cast

import pytest

from aliciacfg.core.message_ids import MessageIds
from aliciacfg.core.outbox import Outbox, service_subject
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.planner import Planner, PlannerFactory
from aliciacfg.core.state import Entry, State
from aliciacfg.core.views import Views
from aliciacfg.documents import DocumentLimits
from aliciacfg.errors import Incompatible, ValidationFailed
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Position
from aliciacfg.model.redaction import REDACTED
from aliciacfg.sealing.boxes import Keyring, PrivateKey, is_sealed, sealed_with
from aliciacfg.sealing.sealed_documents import open_record
from aliciacfg.sources.layers import Environment, Sources
from aliciacfg.storage.hash_chain import Chain
from builders import valid_config

BELL = ConfigId("dev", "bell")
SECRET = "planted-secret-5b1c"
CONTEXT = ChangeContext("tester", "api", "because", operation="set", where="http")


class CountingKeyring(Keyring):
    """A keyring that counts how often it seals."""

    sealed = 0

    def seal(self, *arguments: Any, **places: Any) -> str:
        self.sealed += 1
        return super().seal(*arguments, **places)


class Home:
    """A planner over an environment that defines nothing, and the state that plans are applied to."""

    def __init__(self) -> None:
        self.keyring = cast("CountingKeyring", CountingKeyring.ephemeral())
        self.state = State(active="dev", position=Position(3, 40))
        self.outbox = Outbox(message_ids=MessageIds(self.keyring))
        sources = Sources({name: Environment(name, ()) for name in ("dev", "prod")}, {})
        self.planner: Planner = PlannerFactory(
            keyring=self.keyring,
            chain=Chain(self.keyring),
            views=Views(self.keyring, self.state, {}),
            outbox=self.outbox,
            clock=lambda: 1000.0,
            limits=DocumentLimits(),
        ).planner(sources)

    def plan(self) -> Plan:
        return Plan(self.state, CONTEXT)

    def change(self, plan: Plan, config_id: ConfigId = BELL, *, breaking: bool = True, **settings: Any) -> Entry:
        overlay = valid_config(settings=settings) if settings else valid_config()
        effective = self.planner.composer.compose(config_id.environment, config_id.service, overlay)
        return self.planner.change(plan, config_id, effective=effective, overlay=overlay, refuse_breaking=not breaking)

    def apply(self, **settings: Any) -> Plan:
        """A change of ``bell`` that is durable."""
        plan = self.plan()
        self.change(plan, **settings)
        self.state.commit(plan.entries)
        return plan


def boxes(home: Home) -> dict[str, str]:
    """The sealed settings of the newest revision."""
    record = home.state.head(BELL).live
    assert record is not None
    settings: dict[str, Any] = json.loads(record.config)["settings"]
    return {name: value for name, value in settings.items() if isinstance(value, str) and is_sealed(value)}


@pytest.fixture
def home() -> Home:
    return Home()


def test_a_change_is_a_revision_an_overlay_an_announcement_and_an_audit_entry(home: Home):
    """All of one write, with the next number, and why it happened."""
    home.apply(size=1)
    plan = home.plan()
    home.change(plan, size=2)
    (record,), (overlay,), (announcement,), (entry,) = plan.records, plan.overlays, plan.announcements, plan.audit
    assert (record.revision, record.version, record.author, record.cause) == (2, "1.0.1", "tester", "api")
    assert (record.changed, record.breaking, record.comment) == (["/settings/size"], False, "because")
    assert json.loads(overlay.patch or b"")["settings"] == {"size": 2}
    assert overlay.origins["/settings/size"] == 2
    assert overlay.origins["/api_config/port"] == 1
    assert announcement.subject == service_subject("bell")
    message = json.loads(announcement.payload)
    assert (message["revision"], message["epoch"], message["config"]["settings"]) == (2, 3, {"size": 2})
    assert message["sequence"] == announcement.sequence == record.home_sequence == 42
    assert plan.write.position == Position(3, 42)
    assert (entry.who, entry.operation, entry.where, entry.before, entry.after) == ("tester", "set", "http", 1, 2)
    assert plan.write.records == (record,)


def test_what_does_not_differ_is_no_write(home: Home):
    """An unchanged configuration keeps its record, and the plan stays empty."""
    first = home.apply(size=1)
    plan = home.plan()
    after = home.change(plan, size=1)
    assert after.record is first.records[0]
    assert not plan.writes


def test_a_secret_is_sealed_once_and_stands_nowhere_in_plain_text(home: Home):
    """Revision and overlay hold the same box; the announcement shows ``***``."""
    plan = home.plan()
    settings: dict[str, Any] = {"api_password": SECRET, "nested": [{"token": SECRET}]}
    entry = home.change(plan, **settings)
    assert entry.effective is not None
    assert home.keyring.sealed == len(entry.effective.secrets) == 3
    record, overlay = json.loads(plan.records[0].config), json.loads(plan.overlays[0].patch or b"")
    assert is_sealed(record["settings"]["api_password"])
    assert record["settings"] == overlay["settings"]
    assert record["mqtt_config"]["password"] == overlay["mqtt_config"]["password"]
    assert SECRET.encode() not in b"".join([plan.records[0].config, plan.overlays[0].patch or b""])
    shown = json.loads(plan.announcements[0].payload)["config"]
    assert shown["settings"] == {"api_password": REDACTED, "nested": [{"token": REDACTED}]}
    assert {**plan.redacted[BELL], "version": "1.0.0"} == shown


def test_a_secret_that_stays_keeps_its_box(home: Home):
    """Only what differs is sealed. What comes back is sealed anew: equal boxes would tell that it came back."""
    home.apply(api_key=SECRET, token="other", size=1)
    before = boxes(home)
    home.keyring.sealed = 0
    home.apply(api_key=SECRET, token="changed", size=2)
    after = boxes(home)
    assert (home.keyring.sealed, after["api_key"], after["token"] == before["token"]) == (1, before["api_key"], False)
    home.apply(api_key=SECRET, token="other", size=2)
    assert boxes(home)["token"] not in {before["token"], after["token"]}


def test_a_secret_that_stays_is_sealed_anew_with_a_new_key(home: Home):
    """No box of a key that was replaced goes into a new revision."""
    home.apply(api_key=SECRET, size=1)
    before = boxes(home)
    key = PrivateKey.generate()
    # The digests stay, and with them the checksum.
    home.keyring.replace_with(Keyring(current=key.public.key_id, keys=[key], digest_key=b"x" * 32))
    home.apply(api_key=SECRET, size=2)
    assert sealed_with(boxes(home)["api_key"]) == key.public.key_id
    assert boxes(home)["api_key"] != before["api_key"]


def test_a_secret_that_moves_is_sealed_to_its_new_place(home: Home):
    """Of the same value, too: a box opens in one place only."""
    home.apply(api_key=SECRET)
    home.apply(other_key=SECRET)
    record = home.state.head(BELL).live
    assert record is not None
    assert open_record(record, home.keyring).problems == []


def test_an_inactive_environment_is_not_announced(home: Home):
    """The bus holds the active one."""
    plan = home.plan()
    home.change(plan, ConfigId("prod", "bell"), size=1)
    assert len(plan.records) == 1
    assert plan.announcements == []


def test_two_changes_in_one_plan_build_on_each_other(home: Home):
    """As in a batch: the second one's head is what the first one made."""
    plan = home.plan()
    home.change(plan, size=1)
    home.change(plan, size=2)
    assert [record.revision for record in plan.records] == [1, 2]
    assert plan.entries[BELL].record is plan.records[1]


def test_a_breaking_change_is_refused_whole(home: Home):
    """A refused breaking change adds nothing to the plan, and the error names the removed keys."""
    home.apply(size=1, colour="red")
    plan = home.plan()
    with pytest.raises(Incompatible) as error:
        home.change(plan, size=1, breaking=False)
    assert [problem.pointer for problem in error.value.problems] == ["/settings/colour"]
    assert not plan.writes
    assert plan.entries == {}
    home.change(plan, size=1)
    assert (plan.records[0].version, plan.records[0].breaking) == ("2.0.0", True)


def test_a_version_below_the_one_that_is_needed_is_refused(home: Home):
    """A requested version that is too low for the change is refused."""
    home.apply(size=1)
    plan = home.plan()
    effective = home.planner.composer.effective("dev", "bell", valid_config(settings={"more": 1}, version="1.0.1"))
    with pytest.raises(ValidationFailed):
        home.planner.change(plan, BELL, effective=effective, overlay={})
    assert plan.records == []


def test_a_tombstone_ends_the_configuration_and_keeps_its_counter(home: Home):
    """The retained message is cleared, the overlay dropped; the next write goes on counting."""
    home.apply(size=1)
    plan = home.plan()
    after = home.planner.tombstone(plan, BELL)
    assert after.live is None
    assert (plan.records[0].revision, plan.records[0].deleted) == (2, True)
    assert (plan.overlays[0].patch, plan.announcements[0].payload) == (None, b"")
    home.state.commit(plan.entries)
    assert home.apply(size=1).records[0].revision == 3


def test_a_switch_announces_what_differs_from_the_configuration_before(home: Home):
    """Not what differed from the revision before; the revision itself stays."""
    home.apply(size=1, colour="red")
    plan = home.plan()
    record = home.state.committed(BELL).live
    assert record is not None
    before = {**home.planner.document(home.state.committed(BELL)), "settings": {"size": 1, "colour": "blue"}}
    announced = home.planner.announce_switch(plan, record, before=before)
    assert announced.changed == ["/settings/colour"]
    assert json.loads(plan.announcements[0].payload)["changed"] == ["/settings/colour"]
    assert plan.records == []
