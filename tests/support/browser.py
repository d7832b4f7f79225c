"""A headless Chromium, driven by Playwright: one for all tests of a process, and nothing kept for the next test."""

import contextlib
import os
import re
import shutil
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    WebError,
    async_playwright,
    expect,
)

from machine import PATH, SECONDS

# The same names as in scripts/ensure-test-programs. The headless one uses the least of the machine.
PROGRAMS = (
    "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)  # fmt: skip
OPTIONS = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    # A tenth less of the processor.
    "--in-process-gpu", "--disable-software-rasterizer",
    # A page of a test is not long enough there for optimised code, nor to be rid of what it uses no more.
    "--js-flags=--no-opt,--invocation-count-for-maglev=4000,--min-semi-space-size=16",
    # To start a process takes half of the time of a page, and what it says to another one a part of each request.
    "--process-per-site", "--enable-features=NetworkServiceInProcess2",
)  # fmt: skip
# A page is one layer, whatever scrolls in it: an eighth less of the processor. No picture of it can be taken.
UNSEEN = "--blink-settings=acceleratedCompositingEnabled=false"
# The site of all daemons: a port is no part of it.
SITE = "http://127.0.0.1"
# What is no request to a server.
INLINE = ("data:", "blob:", "about:")
# The console says it for each refused request and for each that fails; those are noted as such.
OF_A_REQUEST = "Failed to load resource"


def program() -> str:
    found = next((path for name in PROGRAMS if (path := shutil.which(name, path=PATH))), None)
    assert found is not None, "run make test, which installs Chromium"
    return found


@contextlib.asynccontextmanager
async def running(home: Path, *, pictures: bool = False) -> AsyncGenerator[Browser, None]:
    """Run a browser that writes nothing outside of ``home``, and of whose pages pictures can be taken if it is said."""
    expect.set_options(timeout=SECONDS * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program(),
            args=OPTIONS if pictures else (*OPTIONS, UNSEEN),
            env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)},
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visit:
    """What one person does in the browser: pages that share storage, and everything that went wrong on them.

    Attributes:
        origins: Where pages may come from and send requests to: those that were opened.
        complaints: Errors that pages logged, exceptions that they did not catch, requests elsewhere, requests that
            failed, and answers with a status of 400 or more.
        requests: Everything that pages asked for.
        finished: Those of the requests whose answer came to its end after ``note_finished``.
        messages: Everything that pages logged.
        seat: A page that opens the others, which are then in its process; without it each begins in one of its own.
    """

    context: BrowserContext
    seat: Page | None = None
    origins: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    finished: list[Request] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    _allowed: list[str] = field(default_factory=list)
    _heard: dict[Any, Any] = field(default_factory=dict[Any, Any])

    def __post_init__(self) -> None:
        self.context.set_default_timeout(SECONDS * 1000)
        self._hear(
            {
                "console": self._logged,
                "weberror": self._failed,
                "request": self._asked,
                "requestfailed": self._lost,
                "response": self._answered,
            }
        )

    def _hear(self, events: dict[Any, Any]) -> None:
        self._heard |= events
        for event, heard in events.items():
            self.context.on(event, heard)

    def note_finished(self) -> None:
        """Keep from now on which requests came to their end; the browser tells of each, so only who needs it asks."""
        self._hear({"requestfinished": self._finished})

    def leave(self) -> None:
        """Hear no more of what pages of the context do."""
        for event, heard in self._heard.items():
            self.context.remove_listener(event, heard)

    async def page(self) -> Page:
        """Return a new, empty page: another tab."""
        if self.seat is None:
            return await self.context.new_page()
        async with self.context.expect_page() as opened:
            await self.seat.evaluate("() => { window.open('about:blank').opener = null; }")
        return await opened.value

    async def open(self, url: str, page: Page | None = None) -> Page:
        """Open an address in a new tab or in ``page``; requests to its origin are allowed from now on."""
        origin = re.sub(r"^(\w+://[^/]*).*", r"\1", url)
        if origin not in self.origins:
            self.origins.append(origin)
        opened = page or await self.page()
        await opened.goto(url)
        return opened

    def allow(self, *patterns: str) -> None:
        """Allow complaints in which one of these regular expressions is found, before and after this call."""
        self._allowed += patterns

    @property
    def unexpected(self) -> list[str]:
        return [text for text in self.complaints if not any(re.search(each, text) for each in self._allowed)]

    def _logged(self, message: ConsoleMessage) -> None:
        self.messages.append(message.text)
        if message.type in {"error", "assert"} and OF_A_REQUEST not in message.text:
            self.complaints.append(f"console: {message.text}")

    def _failed(self, error: WebError) -> None:
        self.complaints.append(f"exception: {error.error}")

    def _asked(self, request: Request) -> None:
        self.requests.append(request)
        if not request.url.startswith((*INLINE, *(f"{origin}/" for origin in self.origins))):
            self.complaints.append(f"elsewhere: {request.method} {request.url}")

    def _finished(self, request: Request) -> None:
        self.finished.append(request)

    def _lost(self, request: Request) -> None:
        # The page itself ends a request that it needs no more, as it ends all when it is closed.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed: {request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"status {response.status}: {response.request.method} {response.url}")


V = TypeVar("V", bound=Visit)
OF_A_VISIT: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}


@contextlib.asynccontextmanager
async def visiting(browser: Browser, kind: type[V], **options: Any) -> AsyncGenerator[V, None]:
    """Visit with a context of its own, whose options are Playwright's; fail if a page had something to complain of."""
    context = await browser.new_context(**{**OF_A_VISIT, **options})
    made = kind(context)
    try:
        yield made
    finally:
        await context.close()
    _complain(made)


def _complain(visit: Visit) -> None:
    if visit.unexpected:
        raise AssertionError("pages complained of:\n" + "\n".join(visit.unexpected))


@dataclass
class Profile:
    """A context for one visit after the other: each finds it as the first one did, but for the browser's HTTP cache.

    A page in the process of those before it takes two thirds of the processor time that it takes in a context of its
    own.

    Attributes:
        seat: A page without content. It stays open, because a process ends with its last page.
    """

    seat: Page

    @classmethod
    async def of(cls, browser: Browser) -> "Profile":
        """Make one with the options of a visit."""
        context = await browser.new_context(**OF_A_VISIT)
        seat = await context.new_page()
        await seat.route("**", lambda route: route.fulfill(content_type="text/html", body="<title>seat</title>"))
        await seat.goto(f"{SITE}/")
        return cls(seat)

    @contextlib.asynccontextmanager
    async def visiting(self, kind: type[V]) -> AsyncGenerator[V, None]:
        """Visit as ``visiting`` does, and leave nothing behind."""
        made = kind(self.seat.context, self.seat)
        try:
            yield made
        finally:
            await self._clear(made)
        _complain(made)

    async def _clear(self, visit: Visit) -> None:
        context = self.seat.context
        for page in context.pages:
            if page != self.seat:
                await page.close()
        visit.leave()
        session = await context.new_cdp_session(self.seat)
        visited = {match[0] for request in visit.requests if (match := re.match(r"https?://[^/]+", request.url))}
        for origin in sorted(visited):
            await session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
        await session.detach()


async def focused(page: Page) -> str:
    """Return what has the focus, as a person would name it: tag and text or label."""
    return await page.evaluate(
        """() => {
          let one = document.activeElement;
          while (one?.shadowRoot?.activeElement) one = one.shadowRoot.activeElement;
          if (!one) return "";
          const name = one.ariaLabel || one.labels?.[0]?.innerText || one.innerText || one.title || "";
          return `${one.tagName.toLowerCase()} ${name.trim().slice(0, 80)}`;
        }"""
    )


async def widest(page: Page) -> Sequence[str]:
    """Return what makes the page wider than its window; nothing if it does not scroll sideways."""
    return await page.evaluate(
        """() => {
          const root = document.documentElement;
          if (root.scrollWidth <= root.clientWidth) return [];
          const reaches = one => one.getBoundingClientRect().right > root.clientWidth + 0.5;
          return [...document.body.querySelectorAll("*")].filter(reaches)
            .map(one => `${one.tagName.toLowerCase()}.${one.className} ${(one.textContent ?? "").trim().slice(0, 40)}`);
        }"""
    )
