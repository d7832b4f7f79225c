"""The page at /docs in a real browser."""

from playwright.async_api import expect

from aliciacfg.http.openapi import path_of
from aliciacfg.operations.table import OPERATIONS
from browser import Visit
from daemons import Daemon


async def test_the_page_shows_every_operation_and_tries_one(shared: Daemon, visit: Visit):
    """Method, path and summary of each row of the table; nothing from elsewhere; the daemon's answer to an example."""
    page = await visit.open(f"{shared.url}/docs#/Configurations/get")
    await expect(page.locator(".opblock").first).to_be_visible()
    shown = await page.locator(".opblock-summary").all_inner_texts()
    rows = [" ".join(text.replace("\u200b", "").split()) for text in shown]
    for row in OPERATIONS:
        assert f"{row.method} {path_of(row)} {row.summary}" in rows
    await expect(page).to_have_title("aliciacfg: the API")
    links = await page.evaluate("[...document.querySelectorAll('header a')].map(link => link.href)")
    assert {f"{shared.url}/openapi.json", f"{shared.url}/asyncapi.json"} <= set(links)
    policy = shared.http("GET", "/docs").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    await page.locator(".try-out__btn").click()
    await page.locator("button.execute").click()
    answer = page.locator(".live-responses-table")
    await expect(answer).to_contain_text('"service": "voice_router"')
    await expect(answer).to_contain_text('"revision": ')
