"""The documentation's site in a real browser, opened as files. ``make soak`` builds it before."""

import pytest
from playwright.async_api import Page, expect

from browser import Visit, widest
from repository import ROOT

SITE = ROOT / "site"
PHONE = 390


async def opened(visit: Visit, name: str, page: Page | None = None) -> Page:
    """Open a page of the site."""
    found = await visit.open((SITE / name).as_uri(), page)
    await expect(found.locator("article h1").first).to_be_visible()
    return found


def names() -> list[str]:
    return sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if path.name != "404.html")


@pytest.mark.soak
async def test_every_page_loads_nothing_from_elsewhere_and_fits_a_phone(visit: Visit):
    """Each request is for a file of the site; nothing is wider than the window; every picture is there."""
    wide: dict[str, object] = {}
    page = await visit.page()
    await page.set_viewport_size({"width": PHONE, "height": 900})
    for name in names():
        await opened(visit, name, page)
        if found := await widest(page):
            wide[name] = found
        assert await page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth)"), name
    assert visit.requests
    assert [each.url for each in visit.requests if not each.url.startswith((SITE.as_uri(), "data:", "about:"))] == []
    assert wide == {}


@pytest.mark.soak
async def test_the_search_finds_a_page_without_a_server(visit: Visit):
    """Typed words lead to the page about them, from files alone."""
    page = await opened(visit, "index.html")
    await page.locator(".md-search__button").click()
    await page.keyboard.type("rollback")
    await expect(page.get_by_text("Undo a bad evening").first).to_be_visible()
