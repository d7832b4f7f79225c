"""MACs, digests and sums, without a database."""

import itertools
from collections.abc import Callable

import msgspec
import pytest

from aliciacfg import documents
from aliciacfg.errors import InvalidRequest
from aliciacfg.model.records import Overlay, Record
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage.hash_chain import START, Chain, sum_macs
from stored_rows import CHAIN, KEYRING, OTHER, entry, revision, tombstone

WITHOUT_KEY = Keyring(current=OTHER.public.key_id, keys=[OTHER], digest_key=b"d" * 32)
FOREIGN = Chain(Keyring.ephemeral())
OVERLAY = Overlay("dev", "one", b'{"size":1}', {"/size": 1})


def test_a_link_covers_the_row_before_and_every_field_but_the_content():
    """The digest stands for content and checksum, so that sealing anew changes no MAC."""
    record = revision("one", 1, {"size": 1})
    mac = CHAIN.link(START, record)
    assert CHAIN.link(b"\x01" * 32, record) != mac
    replaced = {
        "environment": "prod", "service": "two", "revision": 2, "version": "2.0.0", "timestamp": 9.0,
        "author": "luigi", "cause": "file", "digest": "x", "changed": [], "restart_required": [], "breaking": True,
        "comment": "why", "deleted": True, "home_sequence": 9,
    }  # fmt: skip
    for field, value in replaced.items():
        assert CHAIN.link(START, msgspec.structs.replace(record, **{field: value})) != mac, field
    assert {*replaced, "config", "checksum"} == set(Record.__struct_fields__)
    for field, value in {"config": b"{}", "checksum": ""}.items():
        assert CHAIN.link(START, msgspec.structs.replace(record, **{field: value})) == mac


def test_a_revision_and_an_audit_entry_never_have_the_same_mac():
    """What is linked begins with the kind of the row."""
    assert CHAIN.link(START, entry("one")) != CHAIN.link(START, revision("one", 1, {}))


@pytest.mark.parametrize(
    "compute",
    [
        lambda chain: chain.link(START, entry("one")),
        lambda chain: chain.digest({"a": 1}, service="one", environment="dev"),
        lambda chain: chain.overlay_mac(OVERLAY),
        lambda chain: chain.row_mac("meta", ("a", "b")),
        lambda chain: chain.end(1, START, START),
    ],
)
def test_every_mac_needs_the_key(compute: Callable[[Chain], object]):
    """The same rows have other MACs under another key, and the same under the same one."""
    assert compute(CHAIN) == compute(Chain(KEYRING))
    assert compute(CHAIN) != compute(FOREIGN)


def test_a_digest_is_bound_to_its_service_and_environment():
    """The content of one configuration cannot be passed off as that of another."""
    places = itertools.product(["one", "two"], ["dev", "prod"])
    assert len({CHAIN.digest({}, service=service, environment=place) for service, place in places}) == 4


def test_a_secret_that_is_sealed_anew_is_the_same_content():
    """Another box for the same value at the same place changes neither digest nor checksum."""
    record = revision("one", 1, {"size": 1}, secret="open-sesame")
    document = documents.decode_object(record.config)
    box = KEYRING.seal("open-sesame", service="one", environment="dev", pointer="/secret")
    again = msgspec.structs.replace(record, config=documents.encode({**document, "secret": box}))
    assert again.config != record.config
    assert CHAIN.recompute(again) == CHAIN.recompute(record) == (record.digest, record.checksum)


@pytest.mark.parametrize(
    "fields",
    [
        {"config": b'{"size":2,"version":"1.0.0"}'}, {"config": b'{"size":1,"version":"1.0.1"}'}, {"config": b"{"},
        {"checksum": ""}, {"service": "two"}, {"environment": "prod"}, {"deleted": True}, {"revision": 2},
        {"version": "1.0.1"}, {"author": "luigi"}, {"timestamp": 1.0}, {"changed": []}, {"comment": "x"},
        {"digest": ""},
    ],
)  # fmt: skip
def test_every_field_of_a_revision_changes_its_code(fields: dict[str, object]):
    """And so do its place in the chain and the key."""
    record = revision("one", 1, {"size": 1})
    code = CHAIN.record_code(record, 1)
    assert code == CHAIN.record_code(record, 1)
    assert code != CHAIN.record_code(msgspec.structs.replace(record, **fields), 1)
    assert len({code, CHAIN.record_code(record, 2), FOREIGN.record_code(record, 1)}) == 3


def test_a_deletion_holds_no_content():
    """A configuration put into it is damage."""
    assert CHAIN.recompute(tombstone("one", 1)) == (tombstone("one", 1).digest, "")
    with pytest.raises(InvalidRequest, match="no configuration"):
        CHAIN.recompute(msgspec.structs.replace(tombstone("one", 1), config=b'{"size":1}'))


def test_nothing_of_another_key_is_confirmed():
    """Whatever name of a key its code begins with."""
    assert Chain(WITHOUT_KEY).recompute(revision("one", 1, {"size": 1}, secret="open-sesame")) is None
    assert not FOREIGN.confirms_overlay(OVERLAY, CHAIN.overlay_mac(OVERLAY))
    assert not FOREIGN.confirms_overlay(OVERLAY, b"1234" + b"x" * 32)
    assert not FOREIGN.confirms_row("meta", ("a", "b"), CHAIN.row_mac("meta", ("a", "b")))


@pytest.mark.parametrize(
    "mac",
    [
        None, 5, "x", b"", pytest.param(FOREIGN.row_mac("tokens", ("a",)), id="of another key"),
        pytest.param(CHAIN.row_mac("meta", ("a",)), id="of another table"),
    ],
)  # fmt: skip
def test_a_standing_row_is_confirmed_by_its_own_mac_alone(mac: object):
    """Of any type, of another key, of another table: a token must not be accepted by what cannot be decided."""
    assert CHAIN.confirms_row("tokens", ("a",), CHAIN.row_mac("tokens", ("a",)))
    assert not CHAIN.confirms_row("tokens", ("a",), mac)


def test_whole_numbers_count_as_fractions():
    """A database may give either back."""
    assert CHAIN.row_mac("tokens", ("a", 1)) == CHAIN.row_mac("tokens", ("a", 1.0))


def test_an_overlay_is_confirmed_by_its_own_mac():
    """Another patch or other origins are found."""
    mac = CHAIN.overlay_mac(OVERLAY)
    assert CHAIN.confirms_overlay(OVERLAY, mac)
    for other in (msgspec.structs.replace(OVERLAY, patch=b"{}"), msgspec.structs.replace(OVERLAY, origins={})):
        assert not CHAIN.confirms_overlay(other, mac)
    assert not CHAIN.confirms_overlay(OVERLAY, "x")


def test_the_end_is_confirmed_as_it_was_made():
    """Every other value, type or number of values is not."""
    end = CHAIN.end(7, b"m" * 32, b"s" * 32)
    assert CHAIN.confirmed_end(end) == end
    others = [None, (), end[:3], (8, *end[1:]), (7, b"n" * 32, *end[2:]), (*end[:2], START, end[3]), (*end[:3], b"")]
    for other in [*others, ("7", *end[1:]), (7, None, *end[2:])]:
        assert CHAIN.confirmed_end(other) is None
    assert FOREIGN.confirmed_end(end) is None


def test_a_sum_tells_sets_of_rows_apart_in_any_order():
    """Adding a MAC that is in it takes it out again."""
    macs = [CHAIN.row_mac("meta", (name, "")) for name in "abc"]
    total = sum_macs(START, *macs)
    assert {sum_macs(START, *order) for order in itertools.permutations(macs)} == {total}
    assert sum_macs(total, macs[1]) == sum_macs(START, macs[0], macs[2])
    assert sum_macs(total, *macs) == START
    sums = {sum_macs(START, *chosen) for size in range(4) for chosen in itertools.combinations(macs, size)}
    assert len(sums) == 8


@pytest.mark.parametrize("names", [("damaged", "missing"), ("missing", "damaged")])
def test_a_missing_key_does_not_hide_a_damaged_secret(names: tuple[str, str]):
    """Wherever the two stand: what is damaged was tampered with, whatever else cannot be opened."""
    sealed = {"damaged": KEYRING.seal("x", service="one", environment="dev", pointer="/elsewhere")}
    sealed["missing"] = WITHOUT_KEY.seal("y", service="one", environment="dev", pointer=f"/{names.index('missing')}")
    document: documents.JsonObject = {str(place): sealed[name] for place, name in enumerate(names)}
    record = revision("one", 1, {}, config=documents.canonical(document))
    with pytest.raises(InvalidRequest, match=f"/{names.index('damaged')} is bound to another place"):
        CHAIN.recompute(record)
