"""The console in a real browser: how it is loaded, and what holds on every screen."""

import asyncio
import gzip
import re
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from playwright.async_api import Browser, Page, expect

from browser import Visit, visiting
from callers import bearing
from console_browser import Console, faults, settled
from console_home import SERVICES, add_zoo, live_in, prepare
from daemons import Daemon, serving
from web_sites import behind_prefix, site

FIRST_LOAD_LIMIT = 40 * 1024
# Each screen of the console, with what may be open on it.
SCREENS = [
    "#/services",
    "#/compare?env1=dev&env2=prod",
    "#/environments?files=1",
    "#/environments/prod?activate=1",
    "#/new-service",
    "#/services/zoo",
    "#/services/voice_router?tab=raw",
    "#/services/voice_router?tab=history&rev=2&back=1",
    "#/instances",
    "#/drift",
    "#/audit",
    "#/tokens",
    "#/health",
    "#/nothing",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, str]]:
    """A home in which something happened, and the token of its administrator."""
    with serving(
        tmp_path_factory.mktemp("home"), lambda daemon: add_zoo(prepare(daemon, *SERVICES)), asyncio_debug=None
    ) as daemon:
        yield daemon, live_in(daemon)


@pytest.mark.timeout(180)
async def test_every_screen_is_accessible(home: tuple[Daemon, str], console: Console):
    """To WCAG 2.2 AA, as far as axe-core sees it, in both themes and on a phone; and Tab reaches every control.

    So is the question what becomes of an edit whose place somebody else changed.
    """
    daemon, token = home
    console.sign_in(token)
    # What an edit of the files would change, which is refused, and an environment that lacks secrets.
    console.allow(r"status 422: POST \S+/(reload|activate)")
    page = await console.show(daemon)
    wrong: dict[str, dict[str, list[str]]] = {}
    for route in SCREENS:
        await console.show(daemon, route, page)
        await console.picture(page, re.sub(r"\W+", "-", route).strip("-"))
        wrong[route] = await faults(page)
    await _conflict(console, page, daemon, token)
    wrong["conflict"] = await faults(page, "dialog[open]")
    assert wrong == {view: {} for view in wrong}


async def _conflict(console: Console, page: Page, daemon: Daemon, token: str) -> None:
    """Edit a value that somebody else changes meanwhile, as far as the question which of both it shall be."""
    await console.show(daemon, "#/services/tts_service", page)
    await page.get_by_label("max_text_characters", exact=True).fill("42")
    theirs = {"settings": {"max_text_characters": 41}}
    assert (await asyncio.to_thread(bearing(daemon, token), "PATCH", "/config/tts_service", theirs)).status == 200
    await page.get_by_role("button", name="Compare and decide …").click()
    await expect(page.get_by_role("dialog").get_by_role("group", name="/settings/max_text_characters")).to_be_visible()


async def test_the_first_load_is_small_and_the_next_costs_nothing(shared: Daemon, console: Console):
    """40 KB, compressed, before the first screen is there; a second load transfers headers alone.

    The theme is that of the system until a person chooses; the choice stays after a reload and in another tab.
    """
    page = await console.show(shared)
    sizes = [await each.sizes() for each in console.requests if _is_file(each.url)]
    assert len(sizes) >= 3
    assert sum(each["responseBodySize"] for each in sizes) <= FIRST_LOAD_LIMIT
    for scheme in ("dark", "light"):
        await page.emulate_media(color_scheme=scheme)
        assert await _is_dark(page) is (scheme == "dark")
    await page.get_by_label("Theme").select_option("Dark")
    assert await _is_dark(page)
    console.requests.clear()
    await page.reload()
    await settled(page)
    again = [(await each.sizes())["responseBodySize"] for each in console.requests if _is_file(each.url)]
    assert again == [0] * len(sizes)
    assert await _is_dark(page)
    other = await console.show(shared)
    assert await _is_dark(other)
    await expect(other.get_by_label("Theme")).to_have_value("dark")


def _is_file(url: str) -> bool:
    return bool(re.fullmatch(r"http://[^/]+/(console/.*)?", url))


def test_its_files_are_protected_and_asked_for_again(shared: Daemon):
    """Strict policy, no sniffing; the copy of a browser is compared by ETag; HEAD is GET without the body."""
    for path in ("/", "/console/app.js", "/console/app.css", "/console/icon.svg"):
        answer = shared.http("GET", path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, path
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-cache"
        packed = shared.http("GET", path, headers={"Accept-Encoding": "gzip"})
        if packed.headers.get("Content-Encoding") == "gzip":
            assert gzip.decompress(packed.body) == answer.body
        for known in (answer, packed):
            same = shared.http("GET", path, headers={"If-None-Match": known.headers["ETag"]})
            assert (same.status, same.body) == (304, b""), path
        with urllib.request.urlopen(urllib.request.Request(shared.url + path, method="HEAD")) as head:
            assert head.headers["Content-Length"] == str(len(answer.body))
            assert head.read() == b""


async def test_it_works_below_a_path_of_another_server(make_daemon: Callable[..., Daemon], console: Console):
    """Every address is relative: files, requests, events, and the links of its screens; events pass as they come.

    A daemon that restarts is found again, and homes behind one name share nothing that the browser stores.
    """
    # While there is no daemon; the port of the proxy stays.
    console.allow("status 502", "failed: GET .*/events", "console: ")
    daemon = make_daemon().keep_services("multi_language", "voice_router").start()
    async with behind_prefix(daemon, "/home/config") as address:
        page = await console.show(address)
        await expect(page.get_by_role("link", name="voice_router", exact=True)).to_be_visible()
        links = await page.evaluate("[...document.links].map(link => link.href)")
        assert links
        assert [link for link in links if not link.startswith(address)] == []
        await expect(page.get_by_text("live", exact=True)).to_be_visible()
        await _change(page, daemon, "multi_language")
        await page.get_by_label("Search").fill("voice_r")
        await asyncio.to_thread(daemon.kill)
        await expect(page.get_by_text("lost", exact=False).first).to_be_visible()
        await asyncio.to_thread(daemon.start)
        await _change(page, daemon, "voice_router")
        await expect(page.get_by_text("live", exact=True)).to_be_visible()
        await expect(page.get_by_label("Search")).to_have_value("voice_r")
        await page.get_by_role("link", name="voice_router", exact=True).click()
        await page.get_by_role("checkbox", name="metrics", exact=True).click()
        edits = page.get_by_role("region", name="Unsent edits")
        await expect(edits).to_contain_text("1 unsent edit")
        await page.reload()
        await settled(page)
        await expect(edits).to_contain_text("Your draft was restored.")
        kept = await page.evaluate("() => Object.keys(localStorage)")
        assert kept
        assert [name for name in kept if not name.startswith("aliciacfg/home/config.")] == []
        assert [each.url for each in console.requests if not each.url.startswith(address)] == []
        await page.get_by_role("checkbox", name="metrics", exact=True).click()
        await expect(edits).not_to_contain_text("Your draft was restored.")
        await page.close()


async def _change(page: Page, daemon: Daemon, service: str) -> None:
    """Change a service elsewhere, and see its new revision in the list."""
    answer = await asyncio.to_thread(daemon.http, "PATCH", f"/config/{service}", {"settings": {"changed": True}})
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=service, exact=True))
    await expect(row.locator("[data-label=Revision]")).to_have_text(str(answer.json["revision"]))


async def _is_dark(page: Page) -> bool:
    """Return whether the text is lighter than the ground."""
    return await page.evaluate(
        """() => {
          const style = getComputedStyle(document.documentElement);
          const light = colour => colour.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);
          return light(style.color) > light(style.backgroundColor);
        }"""
    )


async def test_without_javascript_it_says_so(shared: Daemon, chromium: Browser):
    """And where the same operations are."""
    async with visiting(chromium, Visit, java_script_enabled=False) as visit:
        page = await visit.open(f"{shared.url}/")
        assert "The console needs JavaScript." in await page.locator("noscript").inner_text()
        await page.locator("noscript a").click()
        assert page.url == f"{shared.url}/docs"


HOSTILE = """<!doctype html><title>other</title><body><iframe src="URL/"></iframe><script type="module">
const tried = {};
const read = async (name, url, options) => {
  try { const answer = await fetch(url, options); tried[name] = answer.type === "opaque" ? "opaque" : "read"; }
  catch (error) { tried[name] = error.name; }
};
await read("get", "URL/configs", {});
await read("page", "URL/", {});
await read("events", "URL/events", {});
await read("opaque", "URL/configs", { mode: "no-cors" });
const body = JSON.stringify({ settings: { log_level: "DEBUG" } });
for (const type of ["application/json", "text/plain"]) {
  for (const method of ["POST", "PATCH", "PUT"]) {
    await read(`${method} ${type}`, "URL/config/voice_router", { method, body, headers: { "Content-Type": type } });
  }
}
const blind = { method: "POST", mode: "no-cors" };
await read("blind rollback", "URL/config/voice_router/rollback", { ...blind, body: '{"revision": 1}' });
await read("blind reload", "URL/reload", { ...blind, body: "{}" });
// Until it has loaded, a window is an empty page of this origin.
const look = async (name, other) => {
  for (let time = 0; time < 100; time += 1) {
    try { tried[name] = other?.document?.title ?? "nothing"; } catch (error) { tried[name] = error.name; return; }
    await new Promise(done => setTimeout(done, 100));
  }
};
await look("opened", window.open("URL/"));
await look("framed", frames[0]);
window.tried = tried;
</script>"""


async def test_another_site_neither_frames_nor_reads_nor_writes_it(shared: Daemon, console: Console):
    """A page of another origin gets nothing that it can read, and what it sends changes nothing."""
    # The browser says of each attempt why it is refused.
    console.allow("console: ", "failed: ", "status 40", "elsewhere: ")
    before = shared.http("GET", "/audit").body, shared.config("voice_router")
    async with site(HOSTILE.replace("URL", shared.url)) as address:
        page = await console.open(address)
        await page.wait_for_function("() => window.tried")
        tried = await page.evaluate("() => window.tried")
    assert {name: result for name, result in tried.items() if result not in {"TypeError", "SecurityError"}} == {
        "opaque": "opaque",
        "blind rollback": "opaque",
        "blind reload": "opaque",
    }
    assert shared.config("voice_router") == before[1]
