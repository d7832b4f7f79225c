"""The console in a browser, as a person uses it: routes, keyboard, accessibility, pictures."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.async_api import Locator, Page, expect

from browser import Visit, focused, widest
from daemons import Daemon
from machine import SECONDS
from repository import ROOT

AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
# WCAG 2.2, levels A and AA, which include those of 2.0 and 2.1.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
COLOURS = ["color-contrast"]
ON_A_PHONE = ["target-size", "scrollable-region-focusable", "aria-hidden-focus", "button-name", "label"]
Theme = Literal["light", "dark"]
PHONE, TABLET, DESK, WIDE = 360, 768, 1280, 2560
THEMES: tuple[Theme, ...] = ("light", "dark")
# Lists grow from frame to frame, so that the page is quiet when some of them change nothing.
QUIET = """() => new Promise(done => {
  let frames = 0;
  const observer = new MutationObserver(() => { frames = 0; });
  observer.observe(document.body, { childList: true, subtree: true, characterData: true });
  const next = () => { if (++frames > 3) { observer.disconnect(); done(); } else requestAnimationFrame(next); };
  requestAnimationFrame(next);
})"""

# The page is looked at when it changes, rather than each time that some milliseconds have passed.
SHOWN = """seconds => new Promise((done, fail) => {
  const seen = one => one !== null && one.checkVisibility({ visibilityProperty: true }) && one.offsetHeight > 0;
  const loading = "boolean(//text()[normalize-space() = 'Loading …'])";
  const ready = () => seen(document.querySelector("main h1, main .notice"))
    && !document.evaluate(loading, document, null, XPathResult.BOOLEAN_TYPE).booleanValue;
  let frames = 0;
  let counts = false;
  const observer = new MutationObserver(() => {
    frames = 0;
    if (!counts && ready()) count();
  });
  const end = finish => { clearTimeout(late); observer.disconnect(); finish(); };
  const giveUp = () => fail(new Error(`no screen is shown: ${document.body.innerText}`));
  const late = setTimeout(() => end(giveUp), seconds * 1000);
  const next = () => {
    counts = ready();
    if (!counts) return;
    if (++frames > 3) end(done); else requestAnimationFrame(next);
  };
  const count = () => { counts = true; requestAnimationFrame(next); };
  observer.observe(document, { attributes: true, childList: true, subtree: true, characterData: true });
  if (ready()) count();
})"""

# What Tab may reach: of what belongs together (radio buttons, a tree) one element, the others by arrows.
CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex='0'], [contenteditable='true']"
# The Tab key is pressed several times before the focus is read; the element that is to be reached keeps it.
AT_A_TIME = 6
# Begins at the control before the element, or after it; with ``window.mayLeave`` it no longer keeps the focus.
APPROACH = """(one, [controls, backwards]) => {
  const all = [...one.getRootNode().querySelectorAll(controls)].filter(each =>
    each === one || (!each.disabled && each.tabIndex >= 0 && each.checkVisibility({ visibilityProperty: true })));
  all[all.indexOf(one) + (backwards ? 1 : -1)]?.focus();
  const stay = event => {
    if (event.key !== "Tab" || one !== one.getRootNode().activeElement) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  addEventListener("keydown", stay, { capture: true });
  window.mayLeave = () => removeEventListener("keydown", stay, { capture: true });
}"""

# What cannot be hit with a finger, with the styles of a screen that is touched, which need no other context so. What is
# pressed counts with its label, and with what belongs to it around it. A link within a text is as high as the text
# (criterion 2.5.5).
TOO_SMALL = """least => {
  const rules = [...document.styleSheets].flatMap(sheet => [...sheet.cssRules]);
  const touched = rules.filter(rule => rule.media?.mediaText === "(pointer: coarse)");
  if (touched.length === 0) return ["no style is for fingers"];
  const isLinkInText = one => one.matches("a, .link")
    && one.parentElement.textContent.trim().length > one.textContent.trim().length + 3;
  const seen = one => one.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && one.offsetWidth > 1;
  const height = one => one.getBoundingClientRect().height;
  const around = one => {
    const { position, top, bottom } = getComputedStyle(one, "::after");
    let within = one;
    while (within !== document.body && getComputedStyle(within).position === "static") within = within.parentElement;
    return position === "absolute" ? height(within) - parseFloat(top) - parseFloat(bottom) : 0;
  };
  const isSmall = one => Math.max(height(one), around(one), ...[...one.labels ?? []].map(height)) < least - 0.5;
  for (const { media } of touched) media.mediaText = "all";
  const found = [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
    .filter(one => seen(one) && one.tabIndex >= 0 && !one.disabled && !isLinkInText(one) && isSmall(one))
    .map(one => `${one.tagName.toLowerCase()} ${one.ariaLabel ?? one.textContent.trim().slice(0, 40)}`);
  for (const { media } of touched) media.mediaText = "(pointer: coarse)";
  return found;
}"""
FINGER_PIXELS = 44


@dataclass
class Console(Visit):
    """One person's visits of the console.

    Attributes:
        pictures: Where ``picture`` puts what it takes; None for nowhere.
    """

    pictures: Path | None = field(default=None)
    _scripts: list[str] = field(default_factory=list[str])

    def sign_in(self, token: str) -> None:
        """Have all pages that are made from now on use a token, as if a person had entered it."""
        keep = f"sessionStorage.setItem('aliciacfg.token', {json.dumps(token)})"
        # An empty page has no storage.
        self._scripts.append(f"if (location.host) {keep}")

    async def page(self) -> Page:
        """Return a new, empty page, which uses the token of ``sign_in``."""
        made = await super().page()
        for script in self._scripts:
            await made.add_init_script(script)
        return made

    async def show(self, daemon: Daemon | str, route: str = "#/services", page: Page | None = None) -> Page:
        """Open a route of a daemon's console, or of the console at an address, and wait until it shows something.

        The route is as in the address, from ``#`` on. With ``page`` it is opened there, otherwise in a new tab.
        """
        base = daemon if isinstance(daemon, str) else daemon.url
        opened = await self.open(f"{base.rstrip('/')}/{route}", page)
        await settled(opened)
        return opened

    async def picture(self, page: Page, name: str) -> None:
        """Take pictures of the whole page in both themes and three widths, if ``--pictures`` says where to."""
        if self.pictures is None:
            return
        self.pictures.mkdir(parents=True, exist_ok=True)
        size = page.viewport_size
        for theme in THEMES:
            await page.emulate_media(color_scheme=theme)
            for width in (PHONE, DESK, WIDE):
                await page.set_viewport_size({"width": width, "height": 900})
                await page.evaluate(QUIET)
                path = self.pictures / f"{name}-{width}-{theme}.png"
                await page.screenshot(path=path, full_page=True)
        await page.emulate_media(color_scheme=None)
        if size is not None:
            await page.set_viewport_size(size)


async def settled(page: Page) -> None:
    """Wait until a screen shows its content, rather than that it is loading."""
    await page.evaluate(SHOWN, SECONDS)


async def tab_to(page: Page, wanted: Locator, *, backwards: bool = False, limit: int = 200) -> None:
    """Move the focus with the Tab key to an element, and fail if it never gets there.

    Begins at the control next to it, because ``stops`` shows of each screen that Tab goes through all of it.
    """
    await expect(wanted).to_be_visible()
    if await has_focus(wanted):
        return
    await wanted.evaluate(APPROACH, [CONTROLS, backwards])
    try:
        for _ in range(0, limit, AT_A_TIME):
            await _press_tab(page, AT_A_TIME, backwards=backwards)
            if await has_focus(wanted):
                return
    finally:
        await page.evaluate("() => window.mayLeave()")
    raise AssertionError(f"{wanted} is not reached by Tab, which is at {await focused(page)} now")


async def _press_tab(page: Page, times: int, *, backwards: bool = False) -> None:
    """Press Tab as the keyboard does: a key that is held down costs a third of what pressing it anew costs."""
    key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9, "modifiers": 8 if backwards else 0}
    session = await page.context.new_cdp_session(page)
    kinds = ["rawKeyDown"] * times + ["keyUp"]
    await asyncio.gather(*(session.send("Input.dispatchKeyEvent", {**key, "type": kind}) for kind in kinds))
    await session.detach()


async def has_focus(wanted: Locator) -> bool:
    """Return whether an element has the focus, also one in a shadow root."""
    return await wanted.evaluate("one => one === one.getRootNode().activeElement")


async def press(page: Page, wanted: Locator, key: str = "Enter") -> None:
    """Reach an element by Tab and press a key on it."""
    await tab_to(page, wanted)
    await page.keyboard.press(key)


async def choose(page: Page, wanted: Locator, option: str) -> None:
    """Reach a list of choices by Tab and choose by typing, as a person without a mouse does."""
    await tab_to(page, wanted)
    await page.keyboard.type(option)
    await expect(wanted.locator("option:checked")).to_contain_text(option)


async def has_address(page: Page, dialog: Locator, opener: Locator) -> None:
    """Fail unless an open dialog is there again after a reload, and Back and Escape close it.

    Its opener gets the focus back, if that opened it. Leaves the dialog open, as it was.
    """
    await expect(dialog).to_be_visible()
    await page.reload()
    await expect(dialog).to_be_visible()
    await page.go_back()
    await expect(dialog).to_have_count(0)
    await expect(page.locator(":is(h1, h2):focus")).to_be_visible()
    address = page.url
    await press(page, opener)
    await expect(dialog).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(opener).to_be_focused()
    await expect(page).to_have_url(address)
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_visible()


async def stops(page: Page) -> tuple[list[str], list[str]]:
    """Press Tab through the whole page; return what got the focus, and everything that can be operated.

    Of choices that belong together (radio buttons, a tree) the keyboard reaches one by Tab and the others by arrows.
    """
    controls: list[str] = await page.evaluate(
        """wanted => {
          const found = [];
          const look = root => {
            for (const one of root.querySelectorAll("*")) {
              if (one.shadowRoot) look(one.shadowRoot);
              if (!one.matches(wanted) || one.disabled || one.type === "radio" && !one.checked) continue;
              if (one.tabIndex < 0 || !one.checkVisibility({ visibilityProperty: true })) continue;
              const text = one.ariaLabel ?? one.textContent.trim().slice(0, 40);
              one.dataset.stop = `${found.length} ${one.tagName.toLowerCase()} ${text}`;
              found.push(one.dataset.stop);
            }
          };
          look(document);
          return found;
        }""",
        CONTROLS,
    )
    await page.evaluate(
        """() => {
          document.activeElement?.blur();
          getSelection()?.removeAllRanges();
          window.reached = new Set();
          document.addEventListener("focusin", event => {
            const stop = event.composedPath()[0].dataset?.stop;
            if (stop !== undefined) window.reached.add(stop);
          });
        }"""
    )
    reached: list[str] = []
    # A page that is slow to draw gets another time.
    for _ in range(3):
        await _press_tab(page, len(controls) + 5)
        reached = await page.evaluate("() => [...window.reached]")
        if set(controls) <= set(reached):
            break
    return reached, controls


async def faults(page: Page, part: str | None = None) -> dict[str, list[str]]:
    """Return what is wrong with a page at a desk, and in the dark theme at the width of a phone.

    What axe-core finds against WCAG 2.2 AA; at a desk also what Tab does not reach, on a phone what is too small for a
    finger, and there and on a tablet what makes the page scroll sideways (criterion 1.4.10). ``part`` is the selector
    of what to look at, on a screen whose rest was looked at elsewhere. Begins with the view that the page has, and
    leaves it in the other one: a change of the view costs as much as a look. The first look of a document takes three
    times as long as each after it.
    """
    if part is not None:
        await expect(page.locator(part).first).to_be_visible()
    found: dict[str, list[str]] = {}
    begins_on_phone = page.viewport_size is not None and page.viewport_size["width"] == PHONE
    await _view(page, on_phone=begins_on_phone)
    for on_phone in (begins_on_phone, not begins_on_phone):
        if on_phone != begins_on_phone:
            await page.set_viewport_size({"width": TABLET, "height": 900})
            found["scrolls sideways on a tablet"] = list(await widest(page))
            await _view(page, on_phone=on_phone)
        # The dark theme differs from the light one in its colours alone, a phone in its layout.
        rules, name = (COLOURS + ON_A_PHONE, "on a phone in the dark theme") if on_phone else ([], "at a desk")
        found[name] = await _violations(page, part, rules)
        if on_phone:
            found["scrolls sideways on a phone"] = list(await widest(page))
            found["too small for a finger"] = await page.evaluate(TOO_SMALL, FINGER_PIXELS)
        elif part is None:
            reached, controls = await stops(page)
            found["not reached by Tab"] = sorted(set(controls) - set(reached))
    return {name: what for name, what in found.items() if what}


async def _view(page: Page, *, on_phone: bool) -> None:
    await page.emulate_media(color_scheme="dark" if on_phone else "light")
    await page.set_viewport_size({"width": PHONE if on_phone else DESK, "height": 900})
    await page.evaluate(QUIET)


async def _violations(page: Page, part: str | None, rules: list[str]) -> list[str]:
    # Evaluated by the debugger, so that the page's policy holds for everything else.
    if not await page.evaluate("() => 'axe' in window"):
        assert AXE.exists(), "run make test, which installs web/node_modules"
        await page.evaluate(AXE.read_text())
    only = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": RULES}
    result = await page.evaluate(
        "([part, only]) => axe.run(part ?? document, { runOnly: only, resultTypes: ['violations'] })", [part, only]
    )
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']} {node['html'][:200]}"
        for violation in result["violations"]
        for node in violation["nodes"]
    ]
