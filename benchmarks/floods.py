"""Floods the daemon, one flood after the other, and shows what it held in memory meanwhile and afterwards.

Each flood meets a daemon and a broker of its own. A well-behaved client reads its configuration meanwhile. Ends with 1
if the daemon held more than it may, did not shrink again, or did not survive.
"""

import argparse
import contextlib
import json
import math
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import trustme

import flood_clients
from neighbour import Neighbour
from processes import HERE, SOURCE, BenchmarkError, Daemon, daemon, mosquitto, run_json
from report import titled_table, wide_console

MAX_PEAK_MB = 300.0
# How much more than at rest the daemon may hold when a flood is over.
MAX_GROWTH = 1.2
SETTLE_SECONDS = 2.0
# A flood that hangs is ended.
MAX_FLOOD_SECONDS = 600.0


@dataclass(frozen=True)
class Flood:
    """One flood, and the home that it meets.

    Attributes:
        name: Of the function in ``flood_clients``.
        protected: With a token, so that the flooding clients, which have none, are strangers.
        tls: With HTTPS.
        stored: How many configurations of 100 kB there are.
        broker_without: Settings of the broker that are left out, so that the daemon has to hold alone.
        settings: Further settings of the daemon.
    """

    name: str
    protected: bool = False
    tls: bool = False
    stored: int = 0
    broker_without: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def text(self) -> str:
        """What it is, in words."""
        doc = flood_clients.FLOODS[self.name].__doc__ or ""
        return doc.rstrip(".")


PACKET_LIMITS = ("max_packet_size", "message_size_limit")
FLOODS = (
    Flood("giant_message", broker_without=PACKET_LIMITS),
    Flood("big_packets", broker_without=PACKET_LIMITS),
    Flood("big_lists", stored=200),
    Flood("gzip_bombs", protected=True),
    Flood("slow_readers", protected=True),
    Flood("pipelined_slow_readers", protected=True),
    Flood("silent_connections", protected=True, tls=True),
    Flood("large_bodies", protected=True),
    Flood("large_bodies_allowed"),
    Flood("secrets_document"),
    Flood("get_storm"),
    Flood("get_overload"),
    Flood("revisions"),
    Flood("names_over_http"),
    Flood("names_over_mqtt"),
    Flood("unread_lists", stored=200),
    Flood("pipelined_unread_lists", stored=200),
)


@dataclass
class Outcome:
    """What a flood did; memory in MB, NaN where the daemon had ended."""

    flood: str
    text: str
    rest_mb: float
    peak_mb: float
    after_mb: float
    processor: float
    http: str
    mqtt: str
    seen: str

    @property
    def faults(self) -> list[str]:
        """What is not as it has to be."""
        found: list[str] = []
        if math.isnan(self.after_mb):
            return ["the daemon ended"]
        if not self.peak_mb <= MAX_PEAK_MB:
            found.append(f"held {self.peak_mb:.0f} MB, more than {MAX_PEAK_MB:.0f} MB")
        if not self.after_mb <= self.rest_mb * MAX_GROWTH:
            found.append(f"kept {self.after_mb:.0f} MB, {self.after_mb / self.rest_mb - 1:.0%} more than at rest")
        return found


def measure(flood: Flood, directory: Path, *, source: Path, seconds: float, after_seconds: float) -> Outcome:
    """Start a home, flood it, wait, and look again.

    Args:
        flood: What is done to it.
        directory: For its files.
        source: The directory of the package that is run.
        seconds: How long floods last that could last for ever.
        after_seconds: How long the daemon has to give memory back.
    """
    with contextlib.ExitStack() as stack:
        mqtt_port = stack.enter_context(mosquitto(directory / "broker", source=source, without=flood.broker_without))
        settings = {**flood.settings, **_tls(flood, directory), **_token_file(flood, directory)}
        home = stack.enter_context(daemon(directory / "home", mqtt_port, source=source, settings=settings))
        token = (directory / "token").read_text().strip() if flood.protected else ""
        _store(home, flood.stored)
        with _neighbour(home, mqtt_port, token, flood.tls):
            time.sleep(SETTLE_SECONDS)
        time.sleep(SETTLE_SECONDS)
        rest = _memory(home)
        home.forget_peak()
        used, begun = home.processor_seconds(), time.monotonic()
        with _neighbour(home, mqtt_port, token, flood.tls) as neighbour:
            seen = run_json(
                "flood_clients.py",
                flood.name,
                timeout_seconds=MAX_FLOOD_SECONDS,
                http_port=home.http_port,
                mqtt_port=mqtt_port,
                tls="yes" if flood.tls else "no",
                seconds=seconds,
            )["seen"]
        processor = (home.processor_seconds() - used) / (time.monotonic() - begun)
        time.sleep(after_seconds)
        return Outcome(
            flood=flood.name,
            text=flood.text,
            rest_mb=rest,
            peak_mb=_memory(home, "VmHWM"),
            after_mb=_memory(home),
            processor=processor,
            http=neighbour.http.shown(),
            mqtt=neighbour.mqtt.shown(),
            seen=seen,
        )


@contextlib.contextmanager
def _neighbour(home: Daemon, mqtt_port: int, token: str, tls: bool) -> Iterator[Neighbour]:
    neighbour = Neighbour(http_port=home.http_port, mqtt_port=mqtt_port, token=token, tls=tls)
    neighbour.start()
    try:
        yield neighbour
    finally:
        neighbour.stop()


def _memory(home: Daemon, what: str = "VmRSS") -> float:
    megabytes = home.memory_mb(what)
    return math.nan if megabytes is None else megabytes


def _token_file(flood: Flood, directory: Path) -> dict[str, str]:
    return {"ALICIACFG_ADMIN_TOKEN_FILE": str(directory / "token")} if flood.protected else {}


def _tls(flood: Flood, directory: Path) -> dict[str, str]:
    """A certificate; and no more open files than a system usually allows."""
    if not flood.tls:
        return {}
    cert = directory / "cert.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(cert)
    return {"ALICIACFG_TLS_CERT": str(cert)}


def _store(home: Daemon, configurations: int) -> None:
    for number in range(configurations):
        body = flood_clients.configuration({"blob": f"{number}" + "x" * 100_000})
        request = urllib.request.Request(
            f"http://127.0.0.1:{home.http_port}/config/stored_{number}",
            data=body,
            method="PUT",
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()


COLUMNS = (
    "flood",
    "at rest MB",
    "peak MB",
    "after MB",
    "processor",
    "neighbour, HTTP",
    "neighbour, MQTT",
    "the flood saw",
)


def _cells(outcome: Outcome) -> tuple[str, ...]:
    memory = (outcome.rest_mb, outcome.peak_mb, outcome.after_mb)
    return (
        outcome.text,
        *("ended" if math.isnan(value) else f"{value:.0f}" for value in memory),
        "" if math.isnan(outcome.processor) else f"{outcome.processor:.0%}",
        outcome.http,
        outcome.mqtt,
        outcome.seen,
    )


def show(outcomes: list[Outcome], title: str) -> None:
    """Print the table, and what is not as it has to be."""
    console, table = wide_console(), titled_table(title)
    for column in COLUMNS:
        number = column.endswith(("MB", "processor"))
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for outcome in outcomes:
        table.add_row(*_cells(outcome))
    console.print(table)
    for outcome in outcomes:
        for fault in outcome.faults:
            console.print(f"{outcome.flood}: {fault}", highlight=False)


DOCUMENT = HERE.parent / "docs" / "reliability.md"
BEFORE = HERE / "floods_before.json"
BEGIN, END = "<!-- floods: written by benchmarks/floods.py -->\n", "<!-- /floods -->\n"


def load_outcomes(files: list[Path]) -> list[Outcome]:
    """Read figures of earlier runs, in the order in which floods are run; of two of one flood, the later one."""
    found = {item["flood"]: Outcome(**item) for file in files for item in json.loads(file.read_text())}
    return [found[name] for name in _names() if name in found]


def write_document(outcomes: list[Outcome]) -> None:
    """Put the table into the documentation, beside the figures from before the floods were dealt with."""
    before = {outcome.flood: outcome for outcome in load_outcomes([BEFORE])}
    rows = [
        (
            "flood",
            "MB before: at rest / peak / after",
            "now",
            "neighbour before: HTTP; MQTT",
            "now",
            "the flood saw, now",
        ),
        ("---",) * 6,
    ]
    for now in outcomes:
        then = before[now.flood]
        rows.append(
            (now.text, _memory_cell(then), _memory_cell(now), _neighbour_cell(then), _neighbour_cell(now), now.seen)
        )
    head, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    DOCUMENT.write_text(f"{head}{BEGIN}{_table(rows)}{END}{rest.partition(END)[2]}", "utf-8")


def _table(rows: list[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows).replace("``", "`")


def _memory_cell(outcome: Outcome) -> str:
    return " / ".join(_cells(outcome)[1:4])


def _neighbour_cell(outcome: Outcome) -> str:
    return "; ".join(filter(None, (outcome.http, outcome.mqtt)))


def markdown(outcomes: list[Outcome]) -> str:
    """The table for the documentation."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(_cells, outcomes)]
    return _table(rows)


def _run(names: list[str], *, source: Path, seconds: float, after_seconds: float) -> list[Outcome]:
    """Run the floods of these names, or all."""
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    outcomes: list[Outcome] = []
    for flood in FLOODS:
        if names and flood.name not in names:
            continue
        print(f"{time.strftime('%H:%M:%S')}  {flood.name}: {flood.text}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=results) as directory:
            outcome = measure(flood, Path(directory), source=source, seconds=seconds, after_seconds=after_seconds)
        outcomes.append(outcome)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("floods", nargs="*", metavar="FLOOD", help=f"only these of: {', '.join(_names())}")
    parser.add_argument("--quick", action="store_true", help="shorter floods, and 10 s instead of 60 s after each")
    parser.add_argument("--source", type=Path, default=SOURCE, help="directory of the package to run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument("--earlier", type=Path, nargs="+", metavar="FILE", help="show these figures, run nothing")
    parser.add_argument("--document", action="store_true", help="write the table into docs/reliability.md")
    options = parser.parse_args()
    unknown = set(options.floods) - set(_names())
    if unknown:
        parser.error(f"there is no flood {', '.join(sorted(unknown))}; there are {', '.join(_names())}")
    # Ends like any other error, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    seconds, after_seconds = (10.0, 10.0) if options.quick else (30.0, 60.0)
    try:
        outcomes = load_outcomes(options.earlier or []) or _run(
            options.floods, source=options.source.resolve(), seconds=seconds, after_seconds=after_seconds
        )
    except BenchmarkError as error:
        sys.exit(f"floods.py: {error}")
    show(outcomes, f"Resident memory under floods, and {after_seconds:g} s after each")
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    if options.markdown is not None:
        options.markdown.write_text(markdown(outcomes))
    if options.document:
        write_document(outcomes)
    sys.exit(any(outcome.faults for outcome in outcomes))


def _names() -> list[str]:
    return [flood.name for flood in FLOODS]


if __name__ == "__main__":
    main()
