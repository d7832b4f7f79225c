"""Take the pictures of the console in docs/images: ``python scripts/picture_console.py``.

A real daemon serves the services of the Alicia home, in which a little happened, to a headless Chromium.
"""

import asyncio
import base64
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1200, 740
PHONE = 390
# Draws pictures side by side.
AS_WEBP = """async pngs => {
  const images = [];
  for (const png of pngs) {
    const image = new Image();
    image.src = `data:image/png;base64,${png}`;
    await image.decode();
    images.push(image);
  }
  const canvas = document.createElement("canvas");
  canvas.width = images.reduce((width, image) => width + image.width + 15, -15);
  canvas.height = Math.max(...images.map(image => image.height));
  let left = 0;
  for (const image of images) {
    canvas.getContext("2d").drawImage(image, left, 0);
    left += image.width + 15;
  }
  return canvas.toDataURL("image/webp", 0.9);
}"""

if TYPE_CHECKING:
    from playwright.async_api import Page

    from console_browser import Console


def main() -> None:
    """Start the home, and take the pictures."""
    sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "src")]
    from console_home import live_in, prepare  # noqa: PLC0415 - the tests are no package
    from daemons import serving  # noqa: PLC0415

    with (
        tempfile.TemporaryDirectory() as directory,
        serving(Path(directory), prepare, asyncio_debug=None) as daemon,
    ):
        token = live_in(daemon, refused_edit=False)
        asyncio.run(_pictures(daemon.url, token, Path(directory)))


async def _pictures(url: str, token: str, directory: Path) -> None:
    from browser import running, visiting  # noqa: PLC0415
    from console_browser import Console  # noqa: PLC0415

    viewport = {"width": WIDTH, "height": HEIGHT}
    async with (
        running(directory, pictures=True) as browser,
        visiting(browser, Console, viewport=viewport) as console,
    ):
        console.sign_in(token)
        page = await console.show(url, "#/services?sort=-changed")
        await _take(page, "services", "light")
        await _form(console, page, url)
        await console.show(url, "#/services/voice_router?tab=history&rev=3", page)
        await _take(page, "history", "light")
        await page.set_viewport_size({"width": PHONE, "height": HEIGHT})
        await page.emulate_media(color_scheme="dark")
        phones: list[bytes] = []
        for route in ("#/services?sort=-changed", "#/services/sonos_service", "#/drift"):
            await console.show(url, route, page)
            phones.append(await page.screenshot())
        await _save(page, "phone", *phones)


async def _form(console: "Console", page: "Page", url: str) -> None:
    """Edit a service as a person does, as far as the review."""
    await console.show(url, "#/services/sonos_service", page)
    await page.get_by_role("textbox", name="max_volume_percent").fill("60")
    await page.get_by_role("combobox", name="log_level").select_option("INFO")
    await page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    await _take(page, "form", "light")
    await page.get_by_role("button", name="Review …").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Comment").fill("The party begins")
    await dialog.get_by_role("button", name="Apply to").wait_for()
    await _take(page, "review", "dark")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Discard …").click()
    await page.get_by_role("dialog").get_by_role("button", name="Discard").click()


async def _take(page: "Page", name: str, theme: str) -> None:
    from console_browser import QUIET  # noqa: PLC0415

    await page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    await page.evaluate(QUIET)
    await _save(page, name, await page.screenshot())


async def _save(page: "Page", name: str, *taken: bytes) -> None:
    # A third of the bytes of a PNG. The browser has the encoder.
    empty = await page.context.new_page()
    data: str = await empty.evaluate(AS_WEBP, [base64.b64encode(png).decode() for png in taken])
    await empty.close()
    (IMAGES / f"console-{name}.webp").write_bytes(base64.b64decode(data.partition(",")[2]))


if __name__ == "__main__":
    main()
