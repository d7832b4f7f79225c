"""What one client notices of others, and how long one request holds the event loop of all."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from processes import HERE, daemon, load, load_beside, mosquitto
from report import DAEMON, Goal, Row
from rounds import Rounds
from scene import GET_TOPIC, READ, WRITTEN, Scene

Flood = Callable[[], AbstractContextManager[None]]
QUIET = "quiet"
# Of the client that is looked at, in requests a second.
_RATE = 200.0
# Of the client that is looked at, over HTTP: so many that a request does not wait for the answer to one before it.
_CONNECTIONS = 16
_FLOOD_RATE = 2000.0
_OVERLOAD_RATE = 20_000.0
_MAX_TIMES_QUIET = 3.0
_MAX_HOLD_MS = 20.0
_FOR_EVER = 600.0


def add_fairness(rounds: Rounds, scene: Scene) -> None:
    """The gets of one client: alone, beside a flood of gets, and beside many writers."""
    rounds.section(
        "Fairness",
        f"A client that gets its configuration {_RATE:.0f} times a second: the 99th of a hundred of its latencies, "
        "quiet and beside others. Those take processors too: the generators and the broker run on the same machine.",
    )
    floods: dict[str, Flood] = {
        f"{_FLOOD_RATE:,.0f} gets/s over MQTT and one writer": lambda: _gets_and_writer(scene),
        "64 writers": lambda: _writers(scene, 64),
    }
    for transport, options in (
        ("HTTP", {"port": scene.home.http_port, "path": f"/config/{READ}", "outstanding": _CONNECTIONS}),
        ("MQTT", {"port": scene.mqtt_port, "topic": GET_TOPIC}),
    ):
        rows = {
            name: rounds.row(
                f"get over {transport} beside {name}",
                Goal(_MAX_TIMES_QUIET, "p99_ms", QUIET, at_least=False),
                key="p99_ms",
            )
            for name in floods
        }
        client = {
            "rate": _RATE,
            "seconds": rounds.effort.fairness_seconds,
            "warm": rounds.effort.warm_seconds,
            **options,
        }
        rounds.jobs.append(partial(_measure_quiet, list(rows.values()), client))
        rounds.jobs += [partial(_measure_beside, scene, rows[name], flood, client) for name, flood in floods.items()]


def _measure_quiet(rows: list[Row], client: dict[str, object]) -> None:
    figures = load("paced", **client)
    for row in rows:
        row.runs[QUIET].append(figures)


def _measure_beside(scene: Scene, row: Row, flood: Flood, client: dict[str, object]) -> None:
    with flood():
        row.runs[DAEMON].append(load("paced", **client))
    scene.settle()


@contextmanager
def _gets_and_writer(scene: Scene) -> Iterator[None]:
    log = scene.scratch / "beside.log"
    options = {"port": scene.mqtt_port, "topic": GET_TOPIC, "rate": _FLOOD_RATE, "seconds": _FOR_EVER}
    with _writers(scene, 1), load_beside("paced", log, **options):
        yield


@contextmanager
def _writers(scene: Scene, count: int) -> Iterator[None]:
    options = {"port": scene.home.http_port, "services": ",".join(scene.written), "seconds": _FOR_EVER}
    with load_beside("write", scene.scratch / "beside.log", outstanding=count, **options):
        yield


def add_overload(rounds: Rounds, scene: Scene) -> None:
    """More gets than are usual in a second: whether each is answered, and the daemon counts as ready."""
    rounds.section(
        "Overload",
        f"One client sends {_OVERLOAD_RATE:,.0f} gets a second over MQTT, whatever the answers do; another one asks "
        "for `/ready` ten times a second, each time on a new connection. `busy` is an answer. A share of 1 is all.",
    )
    answered = rounds.row("gets that are answered", Goal(1.0, "share"), key="share")
    busy = rounds.row("gets that are answered with `busy`", key="busy_share")
    ready = rounds.row("`/ready` with 200", Goal(1.0, "ready_share"), key="ready_share")

    def job() -> None:
        figures = load(
            "overload",
            port=scene.mqtt_port,
            http_port=scene.home.http_port,
            topic=GET_TOPIC,
            rate=_OVERLOAD_RATE,
            seconds=rounds.effort.fairness_seconds,
        )
        answered.runs[DAEMON].append(figures)
        for row in (busy, ready):
            row.runs[DAEMON].append({row.key: figures[row.key]})

    rounds.jobs.append(job)


def add_holds(rounds: Rounds, scratch: Path) -> None:
    """The longest time for which one step of a request held the loop."""
    rounds.section(
        "Holds of the event loop",
        "A daemon in asyncio's debug mode, which itself makes every step slower, on asyncio's own loop. Gets, pages of "
        "`list` with everything, `explain`, refused sets and 64 writers run one after the other. What else the machine "
        "does makes steps longer by the clock, so the goal is in processor time; 0 means that no step took over "
        f"{_MAX_HOLD_MS:.0f} ms.",
    )
    used = rounds.row("longest step, of the processor", Goal(_MAX_HOLD_MS, "ms", at_least=False), key="ms")
    held = rounds.row("longest step, by the clock", key="ms")
    count = rounds.row(f"steps over {_MAX_HOLD_MS:.0f} ms by the clock", key="count")

    def job() -> None:
        log = _log_of_slow_steps(rounds, scratch / f"holds-{len(used.runs[DAEMON])}")
        of_processor, by_clock = (
            [float(seconds) * 1000 for seconds in re.findall(pattern, log)]
            for pattern in (r"a step used ([\d.]+) seconds", r"took ([\d.]+) seconds")
        )
        used.runs[DAEMON].append({"ms": max(of_processor, default=0.0)})
        held.runs[DAEMON].append({"ms": max(by_clock, default=0.0)})
        count.runs[DAEMON].append({"count": len(by_clock)})

    rounds.jobs.append(job)


def _log_of_slow_steps(rounds: Rounds, directory: Path) -> str:
    """Return the log of a daemon from READY on."""
    settings = {"PYTHONASYNCIODEBUG": "1", "SLOW_CALLBACK_SECONDS": str(_MAX_HOLD_MS / 1000)}
    with ExitStack() as stack:
        mqtt_port = stack.enter_context(mosquitto(directory / "broker"))
        home = stack.enter_context(
            daemon(directory / "home", mqtt_port, settings=settings, program=[str(HERE / "watched.py")])
        )
        log = directory / "home" / "daemon.log"
        begun = log.stat().st_size
        options = {"port": home.http_port, "seconds": rounds.effort.limit_seconds, "warm": 0.1}
        for path in (f"/config/{READ}", "/configs?include=config&limit=100", f"/config/{READ}/explain"):
            load("http", path=path, outstanding=8, **options)
        load("write", services=WRITTEN, outstanding=8, statuses="422", **options)
        load("write", services=WRITTEN, outstanding=64, **options)
        return log.read_text()[begun:]
