"""The page at /docs in a real browser."""

from pathlib import Path

from aliciacfg.http.openapi import path_of
from aliciacfg.operations.table import OPERATIONS
from browser import Page, browser
from daemons import Daemon


async def _open(page: Page, daemon: Daemon, fragment: str = "") -> None:
    await page.call("Page.navigate", url=f"{daemon.url}/docs{fragment}")
    await page.until("document.querySelectorAll('.opblock').length")


async def test_the_page_shows_every_operation(shared: Daemon, tmp_path: Path):
    """Method, path and summary of each row of the table, and links to both documents."""
    async with browser(tmp_path) as page:
        await _open(page, shared)
        shown = await page.evaluate("[...document.querySelectorAll('.opblock-summary')].map(row => row.innerText)")
        rows = [" ".join(text.replace("\u200b", "").split()) for text in shown]
        for row in OPERATIONS:
            assert f"{row.method} {path_of(row)} {row.summary}" in rows
        assert await page.evaluate("document.title") == "aliciacfg: the API"
        links = await page.evaluate("[...document.querySelectorAll('header a')].map(link => link.href)")
        assert {f"{shared.url}/openapi.json", f"{shared.url}/asyncapi.json"} <= set(links)
        assert page.complaints == []


async def test_the_page_needs_nothing_but_the_daemon(shared: Daemon, tmp_path: Path):
    """Every request goes to the daemon or is data in the page; the policy that forbids others is there."""
    async with browser(tmp_path) as page:
        await _open(page, shared)
        outside = [url for url in page.requested if not url.startswith((shared.url, "data:", "about:"))]
        assert page.requested
        assert outside == []
    policy = shared.http("GET", "/docs").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_an_operation_can_be_tried_on_the_page(shared: Daemon, tmp_path: Path):
    """The example's service is asked for, and the daemon's answer is shown."""
    async with browser(tmp_path) as page:
        await _open(page, shared, "#/Configurations/get")
        await page.until("document.querySelector('.try-out__btn')")
        await page.evaluate("document.querySelector('.try-out__btn').click()")
        await page.until("document.querySelector('button.execute')")
        await page.evaluate("document.querySelector('button.execute').click()")
        await page.until("document.querySelector('.live-responses-table code')")
        answer = await page.evaluate("document.querySelector('.live-responses-table').innerText")
        assert '"service": "voice_router"' in answer
        assert '"revision": ' in answer
        assert page.complaints == []
