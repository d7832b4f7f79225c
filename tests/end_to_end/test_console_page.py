"""The console in a real browser: how it is loaded, and what holds on every screen."""

import pytest

from console_browser import Console, axe
from daemons import Daemon

# Each screen of the console, with what the daemon of these tests has to show on it.
SCREENS = ["#/services"]


@pytest.mark.parametrize("route", SCREENS)
async def test_a_screen_is_accessible(shared: Daemon, console: Console, route: str):
    """To WCAG 2.2 AA, as far as axe-core sees it, in both themes and on a phone, which does not scroll sideways."""
    page = await console.show(shared, route)
    await axe(page)
    await console.picture(page, route.strip("#/").replace("/", "-"))
