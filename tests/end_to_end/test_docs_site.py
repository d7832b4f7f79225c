"""The documentation's site in a real browser, opened as files. ``make soak`` builds it before."""

from pathlib import Path

import pytest

from browser import Page, browser
from repository import ROOT

SITE = ROOT / "site"
PHONE = 390


async def opened(page: Page, name: str, *, width: int = 1280, scheme: str = "light") -> None:
    """Open a page of the site in a window of a width, by a reader who prefers light or dark."""
    await page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width == PHONE
    )
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    await page.call("Page.navigate", url=(SITE / name).as_uri())
    await page.until(f"location.pathname.endsWith('/{name}') && document.querySelector('article h1')")
    loaded = "document.readyState === 'complete'"
    await page.evaluate(f"new Promise(done => {loaded} ? done() : addEventListener('load', done))")


def names() -> list[str]:
    return sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if path.name != "404.html")


@pytest.mark.soak
async def test_every_page_loads_nothing_from_elsewhere_and_fits_a_phone(tmp_path: Path):
    """Each request is for a file of the site; nothing is wider than the window; every picture is there."""
    wide: list[str] = []
    async with browser(tmp_path) as page:
        for name in names():
            await opened(page, name, width=PHONE)
            if await page.evaluate("document.documentElement.scrollWidth") > PHONE:
                wide.append(name)
            assert await page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth)"), name
        assert page.requested
        assert [url for url in page.requested if not url.startswith((SITE.as_uri(), "data:", "about:"))] == []
        assert page.complaints == []
    assert wide == []


@pytest.mark.soak
async def test_the_search_finds_a_page_without_a_server(tmp_path: Path):
    """Typed words lead to the page about them, from files alone."""
    # The search has a tree of its own, which the observer of ``until`` does not see.
    shown = "[...document.querySelectorAll('*')].some(one => one.shadowRoot?.textContent.includes({text!r}))"
    look = "new Promise(done => {{ const look = () => {shown} ? done() : requestAnimationFrame(look); look(); }})"
    async with browser(tmp_path) as page:
        await opened(page, "index.html")
        await page.evaluate("document.querySelector('.md-search__button').click()")
        await page.until("document.activeElement?.shadowRoot?.activeElement?.tagName === 'INPUT'")
        await page.call("Input.insertText", text="rollback")
        await page.evaluate(look.format(shown=shown.format(text="Undo a bad evening")))
        assert page.complaints == []
