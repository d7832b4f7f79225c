"""Print what very many services would need, with the arithmetic: ``python scripts/scale_model.py --services 1000000``.

A model, not a measurement: some of its inputs were measured on a machine of two processors, the others are assumptions,
and each can be set. ``docs/scaling.md`` shows what it prints without arguments (``scripts/write_reference.py``).
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

_DAY_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs; ``SOURCES`` says where each comes from. Units are in the names."""

    services: int = 1_000_000
    subscribers: int = 10_000_000
    services_per_home: int = 10_000
    daemons_per_home: int = 3
    daemon_mb: int = 208
    document_bytes: int = 1_162
    changes_per_service_and_day: float = 10
    peak_factor: float = 10
    writes_per_second_of_a_home: int = 248
    history_keep: int = 1_000
    row_bytes: int = 2_200
    disk_gb_of_a_database_node: int = 500
    connections_of_a_daemon: int = 9
    connections_of_a_database_node: int = 300
    writes_per_second_of_a_database_node: int = 2_000
    homes_that_may_fail_together: int = 5
    connections_of_a_broker_node: int = 500_000
    deliveries_per_second_of_a_broker_node: int = 100_000
    keepalive_seconds: int = 60
    seconds_to_publish_a_home: float = 5.7
    get_microseconds: float = 11
    spread_seconds: int = 60
    reconnect_seconds: int = 300


_GROWTH = "measured: [Growth](performance.md#growth), 10,000 services"
SOURCES: dict[str, tuple[str, str]] = {
    "services": ("services", "the question"),
    "subscribers": ("programs that subscribe to one service each", "the question"),
    "services_per_home": ("services of a home", "assumed: the largest home that is measured by each `make bench`"),
    "daemons_per_home": ("daemons of a home", "assumed: one may fail while another is upgraded"),
    "daemon_mb": ("memory of a daemon, MB", f"{_GROWTH}, after a change of all"),
    "document_bytes": ("bytes of a configuration", "measured: [Performance](performance.md), the answer's mean size"),
    "changes_per_service_and_day": ("changes of a service in a day", "assumed"),
    "peak_factor": ("busiest second, in means", "assumed"),
    "writes_per_second_of_a_home": (
        "writes a second of a home",
        "measured: [Several daemons](performance.md#several-daemons-durable-set), one writer, three daemons",
    ),
    "history_keep": ("revisions that are kept of a service", "the default of `ALICIACFG_HISTORY_KEEP`"),
    "row_bytes": (
        "bytes of a stored revision and its audit entry, with indexes",
        "measured: 1,687 revisions of 1,144 bytes in PostgreSQL 15",
    ),
    "disk_gb_of_a_database_node": ("disk of a database node, GB", "assumed"),
    "connections_of_a_daemon": (
        "connections of a daemon to the database",
        "the code: 1 that writes, up to 4 that read, 3 to lead, report and follow, 1 that listens",
    ),
    "connections_of_a_database_node": ("connections that a database node takes", "assumed"),
    "writes_per_second_of_a_database_node": (
        "writes a second of a database node",
        "assumed: under half of the 5,368 of a prototype on one row of one node",
    ),
    "homes_that_may_fail_together": ("homes that one database node may hold up", "assumed"),
    "connections_of_a_broker_node": ("connections of a broker node", "assumed"),
    "deliveries_per_second_of_a_broker_node": (
        "messages a second that a broker node delivers",
        "measured: [Fan-out](performance.md#fan-out), 5,000 in 0.05 s, one Mosquitto",
    ),
    "keepalive_seconds": ("Keep Alive of a client, s", "assumed"),
    "seconds_to_publish_a_home": (
        "seconds until the broker has all of a home",
        f"{_GROWTH}, one edit that changes all",
    ),
    "get_microseconds": ("processor time of a get, µs", "measured: [Get over HTTP](performance.md#get-over-http)"),
    "spread_seconds": ("`spread_seconds` of the clients", "assumed"),
    "reconnect_seconds": ("time in which all clients connect anew, s", "assumed"),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One result: what, how it is computed, how much."""

    what: str
    arithmetic: str
    result: str


def number(value: float) -> str:
    """Return a number as people read it: 12,300 or 0.46."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"  # noqa: PLR2004 - as read best


def model(given: Inputs) -> Iterator[Row]:
    """Yield the results."""
    homes = math.ceil(given.services / given.services_per_home)
    daemons = homes * given.daemons_per_home
    yield Row("homes", f"{number(given.services)} ÷ {number(given.services_per_home)}", number(homes))
    yield Row("daemons", f"{number(homes)} × {number(given.daemons_per_home)}", number(daemons))
    memory = daemons * given.daemon_mb / 1_000
    yield Row("their memory, GB", f"{number(daemons)} × {number(given.daemon_mb)} MB", number(memory))
    yield from _database(given, homes, daemons)
    yield from _broker(given)
    yield from _changes_of_all(given, homes, daemons)


def _database(given: Inputs, homes: int, daemons: int) -> Iterator[Row]:
    mean = given.services * given.changes_per_service_and_day / _DAY_SECONDS
    peak = mean * given.peak_factor
    yield Row(
        "writes a second, mean",
        f"{number(given.services)} × {number(given.changes_per_service_and_day)} ÷ {number(_DAY_SECONDS)} s",
        number(mean),
    )
    yield Row("the same in the busiest second", f"{number(mean)} × {number(given.peak_factor)}", number(peak))
    limit = given.writes_per_second_of_a_home
    yield Row(
        "share of what one home writes",
        f"{number(peak)} ÷ {number(homes)} homes ÷ {number(limit)}",
        f"{100 * peak / homes / limit:.1f} %",
    )
    disk = given.services * given.history_keep * given.row_bytes / 1e9
    rows = f"{number(given.services)} × {number(given.history_keep)} × {number(given.row_bytes)} bytes"
    links = f"{number(daemons)} × {number(given.connections_of_a_daemon)}"
    counts = {
        "for the disk": (
            f"{rows} ÷ {number(given.disk_gb_of_a_database_node)} GB",
            math.ceil(disk / given.disk_gb_of_a_database_node),
        ),
        "for the connections": (
            f"{links} ÷ {number(given.connections_of_a_database_node)}",
            math.ceil(daemons * given.connections_of_a_daemon / given.connections_of_a_database_node),
        ),
        "for the writes": (
            f"{number(peak)} ÷ {number(given.writes_per_second_of_a_database_node)}",
            math.ceil(peak / given.writes_per_second_of_a_database_node),
        ),
        "so that few homes fail together": (
            f"{number(homes)} ÷ {number(given.homes_that_may_fail_together)}",
            math.ceil(homes / given.homes_that_may_fail_together),
        ),
    }
    for why, (arithmetic, count) in counts.items():
        yield Row(f"database nodes {why}", arithmetic, number(count))
    nodes = max(count for _, count in counts.values())
    yield Row(
        "database nodes, with a synchronous standby each", f"2 × {number(nodes)}, the most of these", number(2 * nodes)
    )


def _broker(given: Inputs) -> Iterator[Row]:
    nodes = broker_nodes(given)
    yield Row(
        "broker nodes",
        f"{number(given.subscribers)} ÷ {number(given.connections_of_a_broker_node)}",
        number(nodes),
    )
    retained = given.services * given.document_bytes / 1e9
    yield Row(
        "retained messages, GB (times their copies)",
        f"{number(given.services)} × {number(given.document_bytes)} bytes",
        number(retained),
    )
    yield Row(
        "PINGREQ a second of each node",
        f"{number(given.subscribers)} ÷ {number(given.keepalive_seconds)} s ÷ {number(nodes)}",
        number(given.subscribers / given.keepalive_seconds / nodes),
    )
    each = given.subscribers / given.services
    peak = given.services * given.changes_per_service_and_day / _DAY_SECONDS * given.peak_factor
    yield Row("updates delivered in the busiest second", f"{number(peak)} × {number(each)}", number(peak * each))


def _changes_of_all(given: Inputs, homes: int, daemons: int) -> Iterator[Row]:
    nodes = broker_nodes(given)
    yield Row(
        "one edit that changes all of a home, until the broker has it, s",
        "measured",
        number(given.seconds_to_publish_a_home),
    )
    rate = nodes * given.deliveries_per_second_of_a_broker_node
    yield Row(
        f"the same edit in all {number(homes)} homes at once, until it is delivered, s",
        f"the larger of that and {number(given.subscribers)} ÷ ({number(nodes)} × "
        f"{number(given.deliveries_per_second_of_a_broker_node)})",
        number(max(given.seconds_to_publish_a_home, given.subscribers / rate)),
    )
    yield Row(
        "GB that each broker node sends for it",
        f"{number(given.subscribers)} × {number(given.document_bytes)} bytes ÷ {number(nodes)}",
        number(given.subscribers * given.document_bytes / 1e9 / nodes),
    )
    yield Row(
        "programs that react in a second, with `spread_seconds`",
        f"{number(given.subscribers)} ÷ {number(given.spread_seconds)} s",
        number(given.subscribers / given.spread_seconds),
    )
    yield Row(
        "and without",
        f"{number(given.subscribers)} ÷ {number(given.seconds_to_publish_a_home)} s",
        number(given.subscribers / given.seconds_to_publish_a_home),
    )
    gets = given.subscribers / given.spread_seconds / daemons
    yield Row(
        "gets a second of each daemon, if each program then asks once",
        f"{number(given.subscribers)} ÷ {number(given.spread_seconds)} s ÷ {number(daemons)}",
        number(gets),
    )
    yield Row(
        "share of a processor for them",
        f"{number(gets)} × {number(given.get_microseconds)} µs",
        f"{gets * given.get_microseconds / 1e4:.1f} %",
    )
    connects = given.subscribers / given.reconnect_seconds / nodes
    yield Row(
        "connections a second of each broker node, when all connect anew",
        f"{number(given.subscribers)} ÷ {number(given.reconnect_seconds)} s ÷ {number(nodes)}",
        number(connects),
    )


def broker_nodes(given: Inputs) -> int:
    """Return how many nodes the broker's cluster has."""
    return math.ceil(given.subscribers / given.connections_of_a_broker_node)


def lines(given: Inputs | None = None) -> Iterator[str]:
    """Yield both tables as Markdown."""
    given = given or Inputs()
    yield "| input | value | from |"
    yield "|---|---|---|"
    for name, (what, source) in SOURCES.items():
        yield f"| {what} | {number(getattr(given, name))} | {source} |"
    yield ""
    yield "| result | arithmetic | |"
    yield "|---|---|---|"
    for row in model(given):
        yield f"| {row.what} | {row.arithmetic} | {row.result} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables for the inputs of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for item in fields(Inputs):
        what, source = SOURCES[item.name]
        default = item.default
        option = "--" + item.name.replace("_", "-")
        parser.add_argument(option, type=float, default=default, help=f"{what} ({source.replace('%', '%%')})")
    print("\n".join(lines(Inputs(**vars(parser.parse_args(arguments))))))


if __name__ == "__main__":
    main()
