"""Measures the console in a real Chromium, by the browser's own clock: the list of many services, and a long form.

console.py                      1,000 services
console.py --services 5000      as many as wanted
console.py --json console.json  every figure
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from growth import Client, Home
from processes import HERE, PATH, SOURCE, BenchmarkError, daemon, mosquitto
from report import DAEMON, Goal, titled_table, wide_console
from rounds import Rounds

SERVICES = 1000
START_SECONDS = 80.0
_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_OPTIONS = ("--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
# The browser tells of tasks from 50 ms on; if it tells of none, the longest took at most so long.
_SHORTEST_TOLD_MS = 50.0
_UPDATES = 10
# The settings of one service, nearly as many as a configuration may have.
FIELDS = 4500
_WAIT_MS = 30_000

# Runs before anything of the page: notes tasks, and when rows are first on the screen, which is after the second frame
# from then on.
_WATCH = """
globalThis.tasks = [];
new PerformanceObserver(list => tasks.push(...list.getEntries().map(({duration}) => duration)))
  .observe({type: "longtask", buffered: true});
globalThis.rowsShown = count => new Promise(resolve => {
  const look = () => {
    if (document.querySelectorAll("table.services tbody th").length < count) return;
    observer.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now())));
  };
  const observer = new MutationObserver(look);
  observer.observe(document, {childList: true, subtree: true});
  look();
});
globalThis.firstRows = rowsShown(1);
"""
# When the first fields of a form are on the screen, in milliseconds after this is called.
_FORM = """
address => new Promise(resolve => {
  const begun = performance.now();
  location.hash = address;
  const look = () => {
    if (document.querySelector('[data-pointer^="/settings/"]') === null) return requestAnimationFrame(look);
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - begun)));
  };
  look();
})
"""
_FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
# When a row shows a revision, in Unix milliseconds.
_SEEN = """
([name, revision]) => new Promise(resolve => {
  const look = () => {
    const row = [...document.querySelectorAll("table.services tbody tr")].find(row => row.cells[0].innerText === name);
    if (row?.cells[2].innerText !== revision) return;
    observer.disconnect();
    requestAnimationFrame(() => resolve(performance.timeOrigin + performance.now()));
  };
  const observer = new MutationObserver(look);
  observer.observe(document.body, {childList: true, subtree: true, characterData: true});
  look();
})
"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of one visit.

    Attributes:
        load_kb: What the page itself takes over the network, compressed, in kilobytes of 1,024 bytes.
        rows_ms: From the start of the navigation to the frame that shows the first rows.
        load_task_ms: The longest task in the second after the first rows.
        scroll_task_ms: The longest task while the list is scrolled to its end and back.
        search_task_ms: The longest task while a search is typed and deleted, key by key.
        sort_task_ms: The longest task while the list is sorted by each column.
        update_ms: From the moment at which another client sends a PATCH to the frame that shows the new revision: the
            median.
        update_task_ms: The longest task meanwhile.
        form_ms: From the click on a service with a long form to the frame that shows the first fields.
        form_task_ms: The longest task in the second after that, with the opening itself.
        form_type_task_ms: The longest task while a number is typed in a field, key by key.
        form_scroll_task_ms: The longest task while the form is scrolled, and from its end to a field that is searched.
    """

    load_kb: float
    rows_ms: float
    load_task_ms: float
    scroll_task_ms: float
    search_task_ms: float
    sort_task_ms: float
    update_ms: float
    update_task_ms: float
    form_ms: float
    form_task_ms: float
    form_type_task_ms: float
    form_scroll_task_ms: float


def measure(services: int, scratch: Path, *, visits: int = 1, source: Path = SOURCE) -> list[Figures]:
    """Return the figures of some visits to a home.

    Args:
        services: How many it has.
        scratch: A directory for the home, on a disk.
        visits: How many there are, each with an empty browser.
        source: The directory of the package that is run.
    """
    home = Home(scratch / "files", services)
    _lengthen(home, home.names[-1])
    with ExitStack() as stack:
        port = stack.enter_context(mosquitto(scratch / "broker", source=source))
        started = stack.enter_context(
            daemon(scratch / "home", port, source=source, settings=home.settings, start_seconds=START_SECONDS)
        )
        client = Client(started.http_port)
        stack.callback(client.close)
        browser = stack.enter_context(_chromium(scratch))
        return [_visit(browser, client, f"http://127.0.0.1:{started.http_port}/", home) for _ in range(visits)]


def _lengthen(home: Home, service: str) -> None:
    """Give a service a schema with many settings."""
    fields = {f"setting_{number}": {"type": "integer", "default": number} for number in range(FIELDS)}
    schema = {"version": "1.0.0", "properties": {"settings": {"type": "object", "properties": fields}}}
    (home.schemas / f"{service}.json").write_text(json.dumps(schema))


@contextmanager
def _chromium(directory: Path) -> Iterator[Browser]:
    program = next((path for name in _PROGRAMS if (path := shutil.which(name, path=PATH))), None)
    if program is None:
        raise BenchmarkError("there is no Chromium on the PATH; `make bench` installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=_OPTIONS, env={"PATH": PATH, "HOME": str(directory)}
        )
        yield browser
        browser.close()


def _visit(browser: Browser, client: Client, url: str, home: Home) -> Figures:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(_WAIT_MS)
    try:
        page = context.new_page()
        page.add_init_script(_WATCH)
        network = context.new_cdp_session(page)
        received = _received(network)
        page.goto(url)
        rows_ms = page.evaluate("firstRows")
        page.evaluate("new Promise(done => setTimeout(done, 1000))")
        # The files of the page, not what it asks the daemon.
        load = sum(size for address, size in received.items() if address == url or address.startswith(f"{url}console/"))
        load_task_ms = _longest_task(page)
        _scroll(page, len(home.names))
        scroll_task_ms = _longest_task(page)
        _search(page, home.names[len(home.names) // 2])
        search_task_ms = _longest_task(page)
        _sort(page)
        sort_task_ms = _longest_task(page)
        updates = sorted(_update(page, client, name) for name in home.names[:_UPDATES])
        update_task_ms = _longest_task(page)
        form_ms = page.evaluate(_FORM, f"#/services/{home.names[-1]}")
        page.evaluate("new Promise(done => setTimeout(done, 1000))")
        form_task_ms = _longest_task(page)
        _type(page)
        form_type_task_ms = _longest_task(page)
        _scroll_form(page)
        return Figures(
            load_kb=load / 1024,
            rows_ms=rows_ms,
            load_task_ms=load_task_ms,
            scroll_task_ms=scroll_task_ms,
            search_task_ms=search_task_ms,
            sort_task_ms=sort_task_ms,
            update_ms=updates[len(updates) // 2],
            update_task_ms=update_task_ms,
            form_ms=form_ms,
            form_task_ms=form_task_ms,
            form_type_task_ms=form_type_task_ms,
            form_scroll_task_ms=_longest_task(page),
        )
    finally:
        context.close()


def _received(network: CDPSession) -> dict[str, float]:
    """Collect what each address takes over the network, headers included."""
    sizes: dict[str, float] = {}
    addresses: dict[str, str] = {}

    def responded(event: dict[str, Any]) -> None:
        addresses[event["requestId"]] = event["response"]["url"]

    def finished(event: dict[str, Any]) -> None:
        if (address := addresses.get(event["requestId"])) is not None:
            sizes[address] = event["encodedDataLength"]

    network.on("Network.responseReceived", responded)
    network.on("Network.loadingFinished", finished)
    network.send("Network.enable")
    return sizes


def _longest_task(page: Page) -> float:
    """Return the longest task since the last call."""
    # What is told of a task comes after it.
    tasks = page.evaluate("new Promise(done => setTimeout(() => done(tasks.splice(0)), 100))")
    return max([_SHORTEST_TOLD_MS, *tasks])


def _scroll(page: Page, count: int) -> None:
    page.mouse.move(640, 600)
    for step in (900, -900):
        for _ in range(60):
            page.mouse.wheel(0, step)
            page.evaluate("new Promise(requestAnimationFrame)")
    page.keyboard.press("End")
    page.evaluate(f"rowsShown({count})")
    page.keyboard.press("Home")


def _search(page: Page, name: str) -> None:
    page.get_by_label("Search").focus()
    for key in [*name, *["Backspace"] * len(name)]:
        page.keyboard.press(key)
        page.evaluate(_FRAMES)


def _sort(page: Page) -> None:
    for title in ("Last change", "Revision", "Service"):
        page.get_by_role("columnheader", name=title).get_by_role("button").click()
        page.evaluate("new Promise(done => setTimeout(done, 300))")


def _type(page: Page) -> None:
    field = page.locator('[data-pointer="/settings/setting_5"] input')
    field.focus()
    for key in "123456":
        page.keyboard.press(key)
        page.evaluate(_FRAMES)


def _scroll_form(page: Page) -> None:
    page.mouse.move(640, 600)
    for _ in range(30):
        page.mouse.wheel(0, 900)
        page.evaluate("new Promise(requestAnimationFrame)")
    last = f"setting_{FIELDS - 1}"
    page.evaluate(f"find('{last}')")
    page.locator(f'[data-pointer="/settings/{last}"] input').wait_for()


def _update(page: Page, client: Client, name: str) -> float:
    revision = int(str(client.ask("GET", f"/config/{name}")[1]["revision"])) + 1
    page.evaluate(f"wanted => {{ globalThis.seen = ({_SEEN})(wanted); }}", [name, str(revision)])
    begun = time.time() * 1000
    client.ask("PATCH", f"/config/{name}", {"limits": {"requests_per_minute": 1000 + revision}})
    return float(page.evaluate("seen")) - begun


_NAMES = {
    "load_kb": "files of the first load",
    "rows_ms": "first rows of the list on the screen",
    "load_task_ms": "longest task in the second after that",
    "scroll_task_ms": "longest task, scrolling to the end and back",
    "search_task_ms": "longest task, typing a search",
    "sort_task_ms": "longest task, sorting by each column",
    "update_ms": "another client's PATCH, until the row shows it",
    "update_task_ms": "longest task meanwhile",
    "form_ms": f"form of {FIELDS:,} settings: first fields on the screen",
    "form_task_ms": "longest task until a second after that",
    "form_type_task_ms": "longest task, typing in a field of it",
    "form_scroll_task_ms": "longest task, scrolling it and finding its last field",
}
_UNITS = {"kb": "kilobytes", "ms": "ms"}
_MOST = {
    "load_kb": 40.0,
    "rows_ms": 1000.0,
    "load_task_ms": 200.0,
    "scroll_task_ms": 200.0,
    "search_task_ms": 200.0,
    "sort_task_ms": 200.0,
    "update_ms": 1000.0,
    "update_task_ms": 200.0,
    "form_ms": 1000.0,
    "form_task_ms": 200.0,
    "form_type_task_ms": 200.0,
    "form_scroll_task_ms": 200.0,
}


def measure_console(rounds: Rounds, scratch: Path) -> None:
    """Add the section of the console to a run."""
    rounds.section(
        "Console",
        f"A home of {SERVICES:,} services in a headless Chromium on the same machine, each visit with an empty cache, "
        f"by the browser's own clock. It tells of tasks from {_SHORTEST_TOLD_MS:g} ms on: that figure stands for "
        "shorter ones, too.",
    )
    rows = {
        field.name: rounds.row(
            _NAMES[field.name],
            Goal(_MOST[field.name], _UNITS[field.name.rpartition("_")[2]], at_least=False),
            key=_UNITS[field.name.rpartition("_")[2]],
        )
        for field in fields(Figures)
    }
    for figures in measure(SERVICES, scratch / "console", visits=rounds.effort.visits):
        for name, row in rows.items():
            row.runs[DAEMON].append({row.key: getattr(figures, name)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=SERVICES, metavar="N", help="how many the home has")
    parser.add_argument("--visits", type=int, default=3, help="how many")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results) as directory:
        try:
            found = measure(options.services, Path(directory), visits=options.visits)
        except BenchmarkError as error:
            sys.exit(f"console.py: {error}")
    table = titled_table(f"The console with {options.services:,} services")
    table.add_column("measured")
    for number in range(len(found)):
        table.add_column(f"visit {number + 1}", justify="right")
    for field in fields(Figures):
        table.add_row(field.name, *(f"{getattr(figures, field.name):,.1f}" for figures in found))
    wide_console().print(table)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(figures) for figures in found], indent=1))


if __name__ == "__main__":
    main()
