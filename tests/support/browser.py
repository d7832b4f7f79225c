"""A headless Chromium, driven over the DevTools protocol."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from machine import PATH, SECONDS, wait_until

PROGRAMS = (
    "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)  # fmt: skip
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--remote-debugging-port=0", "--window-size=1280,1600",
)  # fmt: skip


def program() -> str:
    found = next((path for name in PROGRAMS if (path := shutil.which(name, path=PATH))), None)
    assert found is not None, "run make test, which installs Chromium"
    return found


@dataclass
class Page:
    """One page: what it loaded, what it complained of, and a way to ask it."""

    socket: aiohttp.ClientWebSocketResponse
    session: str = ""
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    sent: int = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result; handle the events that arrive before it."""
        self.sent += 1
        number = self.sent
        message = {"id": number, "method": method, "params": parameters}
        await self.socket.send_json({**message, "sessionId": self.session} if self.session else message)
        async with asyncio.timeout(SECONDS):
            while True:
                received = await self.socket.receive_json()
                if received.get("id") == number:
                    assert "error" not in received, received
                    return received["result"]
                self._take(received)

    def _take(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requested.append(parameters["request"]["url"])
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in {"error", "assert"}:
                self.complaints.append(str(parameters["args"]))
            case _:
                pass

    async def evaluate(self, script: str) -> Any:
        """The value of an expression; of a promise, what it is resolved with."""
        found = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression is true: looked at after every change of the page."""
        await self.evaluate(
            f"""new Promise(resolve => {{
              const look = () => {{ if ({condition}) {{ observer.disconnect(); resolve(true); }} }};
              const observer = new MutationObserver(look);
              observer.observe(document, {{ childList: true, subtree: true, attributes: true, characterData: true }});
              look();
            }})"""
        )


@contextlib.asynccontextmanager
async def browser(directory: Path) -> AsyncGenerator[Page, None]:
    """A page of a browser of its own."""
    profile = directory / "browser"
    with (directory / "browser.log").open("wb") as log:
        # A session of its own: its helpers are ended with it.
        process = subprocess.Popen(  # noqa: ASYNC220 - it only starts here, and nothing else runs meanwhile
            [program(), *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            stdout=log, stderr=log, env={**os.environ, "HOME": str(directory)}, start_new_session=True,
        )  # fmt: skip
    try:
        address = wait_until(lambda: _address(profile / "DevToolsActivePort"), why="the browser listens")
        async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
            page = Page(socket)
            target = await page.call("Target.createTarget", url="about:blank")
            attached = await page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            page.session = attached["sessionId"]
            for domain in ("Page", "Network", "Runtime", "Log"):
                await page.call(f"{domain}.enable")
            yield page
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _address(file: Path) -> str | None:
    """Where the browser says that it listens, once it does: the port and the path, a line each."""
    lines = file.read_text().splitlines() if file.exists() else []
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}" if len(lines) > 1 else None
