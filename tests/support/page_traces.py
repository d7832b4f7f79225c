"""Everything that the console leaves in a browser, and everything that it sends, to search it for secrets."""

import contextlib
import json
from typing import Any

from playwright.async_api import Error, Page

from console_browser import Console

# What a person can read on the page, what a script of it could, and what the browser stores for it.
IN_THE_PAGE = """async () => {
  const parts = [];
  const look = root => {
    for (const one of root.querySelectorAll("*")) {
      if ("value" in one && one.value) parts.push(`value of ${one.tagName}: ${one.value}`);
      if (one.shadowRoot) { parts.push(one.shadowRoot.innerHTML); look(one.shadowRoot); }
    }
  };
  parts.push(document.documentElement.outerHTML, document.title, location.href, window.name, document.cookie);
  look(document);
  const databases = (await indexedDB.databases()).map(({ name }) => name);
  const cached = globalThis.caches === undefined ? [] : await caches.keys();
  return {
    page: parts.join("\\n"),
    "local storage": JSON.stringify({ ...localStorage }),
    "session storage": JSON.stringify({ ...sessionStorage }),
    "history state": JSON.stringify(history.state),
    "databases and caches": JSON.stringify([databases, cached]),
    globals: Object.keys(window).filter(name => typeof window[name] === "string").map(name => window[name]).join("\\n"),
  };
}"""


async def kept(page: Page) -> dict[str, str]:
    """Return what a page shows and what the browser keeps for it, by place."""
    found: dict[str, str] = await page.evaluate(IN_THE_PAGE)
    session = await page.context.new_cdp_session(page)
    entries: list[Any] = (await session.send("Page.getNavigationHistory"))["entries"]
    await session.detach()
    return {
        **found,
        "history": "\n".join(f"{entry['url']} {entry['title']}" for entry in entries),
        "cookies": json.dumps(await page.context.cookies()),
    }


async def sent(console: Console) -> dict[str, str]:
    """Return every request of a visit and its answer, by method and address; and what pages logged.

    Needs ``note_finished`` at the beginning of the visit.
    """
    found: dict[str, str] = {"messages": "\n".join(console.messages)}
    for number, request in enumerate(console.requests):
        name = f"{number} {request.method} {request.url}"
        found[name] = "\n".join([request.url, json.dumps(request.headers), request.post_data or ""])
        if request in console.finished:
            response = await request.response()
            # The browser keeps bodies for a while only, and none of a file that it had already.
            with contextlib.suppress(Error):
                found[f"answer {name}"] = (await response.body()).decode(errors="replace") if response else ""
    return found
