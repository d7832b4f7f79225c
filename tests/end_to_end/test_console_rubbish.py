"""The console among things that are no sense: what others left in the browser's storage, and answers of no daemon."""

import re

import pytest
from playwright.async_api import Route, expect

from console_browser import Console, settled
from daemons import Daemon

ON_UVLOOP = True
HOME_SERVICES = ("sonos_service",)
LEFT = """() => {
  const draft = value => localStorage.setItem("aliciacfg.draft/dev/sonos_service/" + value.length, value);
  for (const name of ["%E0%A4%A/x/y", "", "%", "dev"]) localStorage.setItem("aliciacfg.draft/" + name, "rubbish");
  for (const value of ["[]", "null", "{", '{"revision":"x","edits":5}']) draft(value);
  const edits = [["/settings/log_level", "set", {}], ["/__proto__/x", "set", 1], ["", "set", []], [5], "x"];
  draft(JSON.stringify({ revision: 1e300, time: "x", edits: JSON.stringify(edits), secrets: [1, null], comment: {},
    conflicts: [{ pointer: "rubbish" }, 5], text: { format: 5, text: "{" } }));
  localStorage.setItem("aliciacfg.theme", "%");
  sessionStorage.setItem("aliciacfg.tab", "%/../");
}"""


@pytest.mark.soak
async def test_rubbish_in_the_storage_hinders_nothing(module_daemon: Daemon, console: Console):
    """The list and the service are shown, whatever is kept under the names of drafts."""
    page = await console.show(module_daemon)
    await page.evaluate(LEFT)
    await page.reload()
    await settled(page)
    await page.get_by_role("link", name="sonos_service", exact=True).click()
    await expect(page.get_by_label("log_level", exact=True)).to_be_visible()
    await expect(page.locator("body")).not_to_contain_text("This screen failed")
    assert await page.evaluate("() => ({}).x") is None


async def test_a_program_that_answers_something_else_is_no_daemon(module_daemon: Daemon, console: Console):
    """The console says so, and does not fail."""
    page = await console.page()

    async def answer(route: Route) -> None:
        await route.fulfill(status=200, body="<html>", content_type="application/json")

    for path in ("whoami", "health", "environments", "configs*", "events"):
        await page.route(f"**/{path}", answer)
    await console.show(module_daemon, "#/services", page)
    await expect(page.locator("main")).to_contain_text("is this the daemon, or a proxy?")


@pytest.mark.soak
async def test_an_answer_of_another_form_is_said_and_looked_for_again(module_daemon: Daemon, console: Console):
    """As of another version of the daemon; what does not need it goes on, and what was typed stays."""
    page = await console.page()

    async def answer(route: Route) -> None:
        await route.fulfill(json={"status": "success", "request_id": None})

    await page.route("**/config/schema/*", answer)
    await console.show(module_daemon, "#/services/sonos_service", page)
    said = page.get_by_text(re.compile("^The answer to GET .* is not what this page expects: /service is missing"))
    await expect(said.first).to_be_visible()
    await page.get_by_role("link", name="History", exact=True).click()
    await expect(page.get_by_role("rowheader", name="Revision 1")).to_be_visible()
    await page.get_by_role("link", name="Form", exact=True).click()
    await page.unroute_all()
    again = page.get_by_role("button", name="Look again").first
    await again.click()
    await expect(said).to_have_count(0)
    await page.route("**/config/sonos_service?*", answer)
    level = page.get_by_label("log_level", exact=True)
    # The first edit puts the environment into the address, so the configuration is loaded under another name.
    await level.select_option("ERROR")
    await expect(said.first).to_be_visible()
    await expect(level.locator("option:checked")).to_have_text("ERROR")
    await page.unroute_all()
    await again.click()
    await expect(said).to_have_count(0)
    await page.route("**/config/sonos_service?*", answer)
    module_daemon.http("PATCH", "/config/sonos_service", {"limits": {"requests_per_minute": 7}})
    await expect(said.first).to_be_visible()
    await expect(level.locator("option:checked")).to_have_text("ERROR")
    await page.unroute_all()
    await again.click()
    await expect(page.get_by_label("requests_per_minute", exact=True)).to_have_value("7")
    await expect(said).to_have_count(0)
    await expect(level.locator("option:checked")).to_have_text("ERROR")


async def test_a_time_that_no_calendar_has_is_shown(module_daemon: Daemon, console: Console):
    """A health of the year 10^300 does not take the screen away."""
    page = await console.page()

    async def answer(route: Route) -> None:
        fetched = await route.fetch()
        health = {**await fetched.json(), "last_update": 1e300}
        await route.fulfill(response=fetched, json=health)

    await page.route("**/health", answer)
    await console.show(module_daemon, "#/health", page)
    await expect(page.locator("time[title='no date']").first).to_be_visible()
