"""Which changes by others are in the basis of a write."""

import pytest

from aliciacfg.model.records import (
    Announcement,
    Applied,
    Basis,
    Overlay,
    Position,
    Recipient,
    Renewal,
    ServingSchema,
    StoredState,
    Token,
    Write,
)
from aliciacfg.storage.conflicts import is_superseded
from stored_rows import revision

ONE = Basis(services=frozenset({"one"}))
ALL = Basis(everything=True)
OF_A_SERVICE = [
    StoredState(records=[revision("one", 1, {})]),
    StoredState(records=[revision("one", 1, {}, environment="prod")]),
    StoredState(overlays=[Overlay("dev", "one", b"{}")]),
    StoredState(overlays=[Overlay("dev", "one", None)]),
    StoredState(renewals=[Renewal("dev", "one", 7)]),
    StoredState(schemas=[ServingSchema("one", b"{}")]),
    StoredState(recipients=[Recipient("one", "a")]),
]
OF_THE_HOME = [StoredState(meta={"active_environment": "prod"}), StoredState(position=Position(2, 0))]
OF_NOBODY = [
    StoredState(),
    StoredState(commit=9, position=Position(1, 9)),
    StoredState(meta={"probe": ""}),
    StoredState(announcements=[Announcement("service/one", 1, b"x")]),
    StoredState(applied=[Applied("one", "a", "dev", 1, "c", "applied", None, 1, 2)]),
    StoredState(tokens=[Token(token_id="0" * 12, digest="d", name="panel", role="reader", created=1)]),
]


def superseded(change: StoredState, *bases: Basis | None, created: str = "") -> bool:
    writes = [Write(basis=basis) for basis in bases]
    return is_superseded(writes, change, {created} - {""}, epoch=1)


@pytest.mark.parametrize("change", OF_A_SERVICE)
def test_a_change_of_a_service_concerns_who_builds_on_it(change: StoredState):
    """In whatever environment; and who builds on everything."""
    assert superseded(change, ONE)
    assert superseded(change, None, Basis(), ONE)
    assert superseded(change, ALL)
    assert not superseded(change, Basis(services=frozenset({"two"})), Basis(creates=frozenset({"dev"})), Basis(), None)


@pytest.mark.parametrize("change", OF_THE_HOME)
def test_a_change_of_the_home_concerns_every_plan(change: StoredState):
    """But no write that was not planned."""
    for basis in (ONE, ALL, Basis(creates=frozenset({"dev"})), Basis()):
        assert superseded(change, basis)
    assert not superseded(change, None)


@pytest.mark.parametrize("change", OF_NOBODY)
def test_what_nobody_builds_on_concerns_nobody(change: StoredState):
    """Messages that wait, reports, tokens, the number of the last commit."""
    assert not superseded(change, ONE, ALL, Basis(creates=frozenset({"dev"})))


def test_a_new_configuration_concerns_who_makes_another_there():
    """Their number in an environment is limited."""
    change = StoredState(records=[revision("two", 1, {})])
    assert superseded(change, Basis(creates=frozenset({"dev"})), created="dev")
    assert not superseded(change, Basis(creates=frozenset({"prod"})), ONE, created="dev")
