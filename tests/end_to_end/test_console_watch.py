"""The console watches a home: its services, what is wrong with them, who did what, and the daemon itself."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from playwright.async_api import Locator, Page, Route, expect

from callers import bearing
from console_browser import Console, has_address, press, settled
from daemons import Daemon
from machine import wait_until
from mqtt_clients import client

ON_UVLOOP = True
SERVICES = 22


def rows(page: Page) -> Locator:
    return page.locator("table.services tbody tr")


def row_of(page: Page, service: str) -> Locator:
    return rows(page).filter(has=page.get_by_role("link", name=service, exact=True))


async def change(daemon: Daemon, service: str, comment: str = "", **limits: int) -> dict[str, Any]:
    """Change a service as another client, while the page goes on."""
    query = f"?comment={comment}" if comment else ""
    answer = await asyncio.to_thread(daemon.http, "PATCH", f"/config/{service}{query}", {"limits": limits})
    assert answer.status == 200, answer.body
    return answer.json


async def _give_the_highest_revision(daemon: Daemon, service: str, comment: str) -> None:
    before = {item["service"]: item["revision"] for item in daemon.http("GET", "/configs").json["configs"]}
    for number in range(max(before.values()) + 2 - before[service]):
        await change(daemon, service, comment, requests_per_minute=301 + number)


async def test_the_list_is_found_again_as_it_was_left(module_daemon: Daemon, console: Console):
    """Search, filter and order are in the address: after Back, after a reload, and filters at the next visit."""
    await _give_the_highest_revision(module_daemon, "stt_service", "quieter")
    page = await console.show(module_daemon, "#/services")
    await expect(rows(page)).to_have_count(SERVICES)

    await page.get_by_label("Search").fill("QUIETER")
    await expect(rows(page)).to_have_count(1)
    await expect(row_of(page, "stt_service")).to_contain_text("quieter")
    await page.get_by_label("Search").fill("service")
    await press(page, page.get_by_role("button", name="Changed in the last day"), "Space")
    await press(page, page.get_by_role("button", name="Revision", exact=True))
    await press(page, page.get_by_role("button", name="Revision", exact=True))
    await expect(page).to_have_url(re.compile(r"#/services\?.*search=service"))
    first = rows(page).first
    await expect(first).to_contain_text("stt_service")
    assert "only=recent" in page.url
    assert "sort=-revision" in page.url
    found = await rows(page).count()
    assert 1 < found < SERVICES

    await first.get_by_role("link").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("stt_service")
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    await page.go_back()
    await page.go_forward()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("stt_service")
    await page.go_back()
    await expect(page.get_by_label("Search")).to_have_value("service")
    await expect(rows(page)).to_have_count(found)
    await expect(first).to_contain_text("stt_service")
    await page.reload()
    await settled(page)
    await expect(rows(page)).to_have_count(found)

    # A new tab begins with the filters of the last one; a search was for once.
    other = await console.show(module_daemon, "")
    await expect(other.get_by_role("button", name="Changed in the last day")).to_have_attribute("aria-pressed", "true")
    await expect(rows(other).first).to_contain_text("stt_service")
    await expect(other.get_by_label("Search")).to_have_value("")
    await other.get_by_role("button", name="Clear").click()
    await other.get_by_role("button", name="Service", exact=True).click()
    await expect(rows(other)).to_have_count(SERVICES)
    await expect(rows(other).first).to_contain_text("advanced_voice")

    # Who comes back to a place far down finds it there.
    await other.set_viewport_size({"width": 1280, "height": 400})
    last = rows(other).last
    await last.scroll_into_view_if_needed()
    # The page hears of it with the next frame.
    await settled(other)
    await last.get_by_role("link").click()
    # Until the screen is loaded, the list is there.
    await expect(other.get_by_role("heading", level=1)).to_contain_text("voice_router")
    await settled(other)
    await other.go_back()
    await expect(last).to_be_in_viewport()

    await page.get_by_label("Search").fill("no such thing")
    await expect(page.get_by_text("No service matches")).to_be_visible()


async def test_another_environment_is_looked_at(module_daemon: Daemon, console: Console):
    # The service, which has no configuration there.
    console.allow(r"status 404: GET \S+/config/tts_service\?environment=staging")
    page = await console.show(module_daemon, "#/services")
    await page.get_by_label("Environment", exact=True).select_option("staging")
    await expect(page.get_by_text("staging is not the active environment")).to_be_visible()
    assert "env=staging" in page.url
    # Its secrets are not there yet.
    await expect(page.get_by_text(f"{SERVICES} services have no configuration in staging.")).to_be_visible()
    await page.get_by_label("Search").fill("nothing like that")
    await press(page, page.get_by_role("button", name="Clear"))
    await expect(page.get_by_label("Search")).to_be_focused()
    await page.keyboard.type("tts")
    await expect(rows(page)).to_have_count(1)
    await expect(row_of(page, "tts_service")).to_contain_text("not valid")
    await expect(row_of(page, "tts_service")).to_contain_text("/mqtt_config/password: is missing")
    await rows(page).first.get_by_role("link").click()
    await expect(page).to_have_url(re.compile(r"#/services/tts_service\?env=staging"))
    await page.go_back()
    await expect(page.get_by_label("Search")).to_have_value("tts")
    await page.go_back()
    await expect(page).to_have_url(re.compile("#/services$"))
    await expect(page.get_by_text("staging is not the active environment")).to_have_count(0)


async def test_what_another_client_changes_is_seen_without_a_look(module_daemon: Daemon, console: Console):
    """In one row, for one small request: nothing else is loaded again, nor rendered. Services come and go."""
    page = await console.show(module_daemon, "#/services")
    row = row_of(page, "tts_service")
    await expect(page.get_by_text("live", exact=True)).to_be_visible()
    # The events that begin the stream are over.
    await settled(page)
    before = len(console.requests)
    await page.evaluate(
        """() => {
          globalThis.touched = new Set();
          new MutationObserver(changes => {
            for (const { target } of changes) {
              const row = target.parentElement?.closest?.("table.services tr");
              // How long ago something was is written again as time goes by.
              if (row && !target.parentElement.closest("time")) touched.add(row.cells[0].innerText);
            }
          }).observe(document.querySelector("table.services"), { childList: true, subtree: true, characterData: true });
        }"""
    )
    changed = await change(module_daemon, "tts_service", "louder", requests_per_minute=302)
    await expect(row).to_contain_text("louder")
    await expect(row.locator("td").nth(1)).to_have_text(str(changed["revision"]))
    # What the event did not say is read for this service alone.
    await asyncio.to_thread(
        wait_until, lambda: any("prefix=tts_service" in request.url for request in console.requests[before:])
    )
    asked = [request.url for request in console.requests[before:] if "/configs?" in request.url]
    assert all("prefix=tts_service" in url for url in asked), asked
    assert await page.evaluate("[...touched]") == ["tts_service"]
    await page.get_by_label("Search").fill("sonos")
    async with client(module_daemon.broker_port) as bus:
        said = json.dumps({"service": "sonos_service", "service_name": "sonos_service"}).encode()
        await bus.publish("alicia/system/discovery/register", said)
        await expect(row_of(page, "sonos_service")).to_contain_text("online")
        await bus.publish("alicia/system/discovery/unregister", said)
        await expect(row_of(page, "sonos_service")).to_contain_text("offline")
    await page.get_by_role("button", name="Offline").click()
    await expect(rows(page)).to_have_count(1)


async def test_copies_that_reject_a_revision_are_shown_with_their_reason(module_daemon: Daemon, console: Console):
    """In the list, on the screens of instances and of drift, and on the tab of the service; all that live."""
    config = await asyncio.to_thread(module_daemon.config, "ha_bridge")
    report = {"revision": config["revision"], "checksum": config["checksum"]}
    page = await console.show(module_daemon, "#/services?search=ha_bridge")
    async with client(module_daemon.broker_port) as bus:

        async def tell(**report: Any) -> None:
            await bus.publish("alicia/config/applied/ha_bridge", json.dumps(report).encode())

        await tell(**report, instance="kitchen", status="applied")
        await tell(**report, instance="attic", status="rejected", error="too few for this room")
        await expect(row_of(page, "ha_bridge")).to_contain_text("rejected by 1")
        await expect(row_of(page, "ha_bridge")).to_contain_text("drift")
        await page.get_by_role("button", name="Behind or rejected").click()
        await expect(rows(page)).to_have_count(1)

        await page.get_by_role("link", name="Instances").click()
        section = page.get_by_role("region", name="ha_bridge")
        await expect(section).to_contain_text("1 of 2 copies does not run revision")
        await expect(section).to_contain_text("too few for this room")
        await page.get_by_role("link", name="Drift and alerts").click()
        finding = page.get_by_role("listitem").filter(has_text="ha_bridge/attic")
        await expect(finding).to_contain_text("too few for this room")
        await expect(page.get_by_text("What to do: inspect that instance")).to_be_visible()
        await finding.get_by_role("link", name="ha_bridge").click()
        await expect(page.get_by_role("row").filter(has_text="attic")).to_contain_text("rejected")

        await tell(**report, instance="attic", status="restart_pending")
        await expect(page.get_by_role("row").filter(has_text="attic")).to_contain_text("restart pending")
        await tell(**report, instance="attic", status="applied")
        await expect(page.get_by_text("All 2 copies run revision").first).to_be_visible()
    await page.get_by_role("link", name="Drift and alerts").click()
    await expect(page.get_by_text("Everything is as the store says.")).to_be_visible()
    await expect(page.locator("dl")).to_contain_text(re.compile(r"In instances\s*1"))


async def test_an_edit_of_a_file_that_is_refused_stands_above_everything(
    make_daemon: Callable[..., Daemon], console: Console
):
    """With file and line, and what to do; gone as soon as it is corrected."""
    daemon = make_daemon().keep_services("voice_router").start()
    page = await console.show(daemon, "#/services")
    file = daemon.environments / "dev.yaml"
    text = file.read_text()
    file.write_text(f"{text}\ndefaults: [\n")
    await expect(page.get_by_role("alert")).to_contain_text("Edits of the files are refused.")
    await expect(page.locator(".notice")).to_contain_text(re.compile(r"dev\.yaml:\d+"))
    await page.get_by_role("link", name="Drift and alerts").click()
    alert = page.get_by_role("article").filter(has_text="validation_failed")
    await expect(alert).to_contain_text("What to do: correct the file and line that the alert names")
    await page.get_by_role("link", name="Health", exact=True).click()
    await expect(page.get_by_text("The daemon works, but something needs a look.")).to_be_visible()
    await expect(page.get_by_text(re.compile(r"refused: \S*dev\.yaml:\d+"))).to_be_visible()
    file.write_text(text)
    await expect(page.get_by_text("The daemon is healthy.")).to_be_visible()
    await page.get_by_role("link", name="Services", exact=True).click()
    await expect(rows(page)).to_have_count(1)
    await expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.soak
async def test_a_daemon_that_goes_away_and_comes_back(make_daemon: Callable[..., Daemon], console: Console):
    """The page says so, keeps what it shows, and has what changed meanwhile without being loaded again."""
    console.allow(r"failed: GET", r"status 503")
    daemon = make_daemon().keep_services("voice_router", "tts_service").start()
    daemon.environ["ALICIACFG_HTTP_PORT"] = daemon.url.rpartition(":")[2]
    page = await console.show(daemon, "#/services")
    await page.evaluate("globalThis.loadedOnce = true")
    await expect(page.get_by_text("live", exact=True)).to_be_visible()
    await asyncio.to_thread(daemon.stop)
    await expect(page.get_by_text("The daemon does not answer.")).to_be_visible()
    await expect(rows(page)).to_have_count(2)
    file = daemon.environments / "dev.yaml"
    content = yaml.safe_load(file.read_text())
    content.setdefault("services", {}).setdefault("voice_router", {})["limits"] = {"requests_per_minute": 303}
    file.write_text(yaml.safe_dump(content))
    await asyncio.to_thread(daemon.start)
    await expect(row_of(page, "voice_router").locator("td").nth(1)).to_have_text("2")
    await expect(page.get_by_text("live", exact=True)).to_be_visible()
    await expect(page.get_by_text("The daemon does not answer.")).to_have_count(0)
    assert await page.evaluate("globalThis.loadedOnce")


async def close_home(page: Page, daemon: Daemon) -> str:
    """Create the first token, which is returned, while a page is open; it may ask for one before, too."""
    await expect(page.locator(".who")).to_contain_text("open to everybody")
    opener = page.get_by_role("button", name="Enter a token")
    await press(page, opener)
    await has_address(page, page.get_by_role("dialog"), opener)
    await page.go_back()
    token = daemon.local("token_create", {"name": "mario", "role": "reader"})["token"]
    await expect(page.get_by_role("dialog", name="Enter a token")).to_be_visible()
    await expect(page.locator(".who")).to_contain_text("without a token")
    return token


async def test_a_token_is_asked_for_used_and_forgotten(make_daemon: Callable[..., Daemon], console: Console):
    """Kept for the tab or for the page, as one wants; in no address, and not where other tabs find it.

    As soon as there is a token, the home is not called open any more.
    """
    console.allow(r"status 401")
    daemon = make_daemon().keep_services("voice_router", "tts_service").start()
    page = await console.show(daemon, "#/services")
    dialog = page.get_by_role("dialog")
    token = await close_home(page, daemon)
    await dialog.get_by_label("Token", exact=True).fill("not a token")
    await page.keyboard.press("Enter")
    await expect(dialog.get_by_role("alert")).to_contain_text("cannot be a token")
    await expect(dialog.get_by_role("alert")).to_be_focused()
    await dialog.get_by_label("Token", exact=True).fill(token[:-1])
    await page.keyboard.press("Enter")
    await expect(dialog.get_by_role("alert")).to_contain_text("not a complete token")
    await expect(dialog.get_by_role("alert")).to_be_focused()
    await dialog.get_by_label("Token", exact=True).fill(token)
    await page.keyboard.press("Enter")
    await expect(dialog).to_have_count(0)
    await expect(rows(page)).to_have_count(2)
    await expect(page.get_by_text("mario")).to_be_visible()
    assert token not in page.url
    assert token not in await page.evaluate("JSON.stringify(localStorage)")
    # What only administrators can use is not offered to a reader.
    await expect(page.get_by_role("link", name="Health", exact=True)).to_be_visible()
    await expect(page.get_by_role("link", name="Audit")).to_have_count(0)
    # Nor is it asked for: a status of 403 would fail this test.
    for route, said in (("drift", "see the findings"), ("audit", "read the audit log"), ("tokens", "see the tokens")):
        await console.show(daemon, f"#/{route}", page)
        await expect(page.get_by_text(f"Only administrators {said}.")).to_be_visible()
    await console.show(daemon, "#/services", page)
    await page.reload()
    await expect(rows(page)).to_have_count(2)

    await page.get_by_role("button", name="Forget the token").click()
    await expect(dialog).to_be_visible()
    await expect(rows(page)).to_have_count(0)
    assert token not in await page.evaluate("JSON.stringify(sessionStorage)")
    await dialog.get_by_label("until the page is loaded again").check()
    await dialog.get_by_label("Token", exact=True).fill(token)
    await page.keyboard.press("Enter")
    await expect(rows(page)).to_have_count(2)
    assert token not in await page.evaluate("JSON.stringify(sessionStorage)")
    await page.reload()
    await expect(dialog).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("alert")).to_contain_text("The daemon asks for a token.")

    # A token that ends while the page is open.
    await page.get_by_role("button", name="Enter a token").first.click()
    await dialog.get_by_label("Token", exact=True).fill(token)
    await page.keyboard.press("Enter")
    await expect(rows(page)).to_have_count(2)
    await asyncio.to_thread(daemon.local, "token_revoke", {"token_id": token.split("_")[1]})
    await expect(page.get_by_role("alert")).to_contain_text("The daemon does not take this token any more.")


@pytest.mark.soak
async def test_a_service_sees_itself_alone(make_daemon: Callable[..., Daemon], console: Console):
    """On every screen that it may see: a status of 403 would fail the test, and stand in the audit log."""
    daemon = make_daemon().keep_services("voice_router", "tts_service").start()
    console.sign_in(daemon.local("token_create", {"name": "voice_router"})["token"])
    page = await console.show(daemon, "#/services")
    await expect(rows(page)).to_have_count(1)
    await expect(row_of(page, "voice_router")).to_be_visible()
    await expect(page.get_by_text("live", exact=True)).to_be_visible()
    for place in ("Environments", "Audit", "Tokens"):
        await expect(page.get_by_role("link", name=place)).to_have_count(0)
    for place in ("Instances", "Drift and alerts", "Health", "Services"):
        await page.get_by_role("navigation").get_by_role("link", name=place).click()
        await settled(page)
    await row_of(page, "voice_router").get_by_role("link").click()
    await settled(page)
    # An address from somebody else says nothing that is not known here.
    for route in ("#/environments", "#/environments/prod"):
        await page.evaluate("route => { location.hash = route; }", route)
        await settled(page)
        await expect(page.get_by_role("status").filter(has_text="Only those who may read all services")).to_be_visible()
        await expect(page.get_by_text("can be activated")).to_have_count(0)
    await page.evaluate("() => { location.hash = '#/compare?env1=dev&env2=prod'; }")
    await expect(page.get_by_role("row").filter(has_text="voice_router")).to_contain_text("not valid in prod")


async def create(page: Page, console: Console) -> str:
    """Create a token of grafana, and return its text, which no address leads to afterwards."""
    opener, dialog = page.get_by_role("button", name="Create a token"), page.get_by_role("dialog")
    await opener.click()
    await dialog.get_by_label("Name").fill("grafana")
    await dialog.get_by_label("Role").select_option("metrics")
    await dialog.get_by_label("Expires").select_option("in 90 days")
    await has_address(page, dialog, opener)
    await console.picture(page, "create-token")
    await expect(dialog.get_by_label("Name")).to_have_value("grafana")
    await dialog.get_by_role("button", name="Create").click()
    shown = dialog.get_by_label("Token", exact=True)
    await expect(shown).to_have_attribute("readonly", "")
    made = await shown.input_value()
    assert made not in page.url
    for _ in range(2):
        await page.keyboard.press("Escape")
    await expect(shown).to_be_visible()
    await console.picture(page, "new-token")
    await page.go_back()
    await expect(opener).to_be_focused()
    await page.go_forward()
    await expect(page).to_have_url(re.compile("#/tokens$"))
    await expect(dialog).to_have_count(0)
    return made


async def leave_early(page: Page) -> None:
    """Go elsewhere before a token is made: its text is there for who comes back."""
    dialog, sent = page.get_by_role("dialog"), asyncio.Event()

    async def hold(route: Route) -> None:
        if route.request.method == "POST":
            await sent.wait()
        await route.continue_()

    await page.route("**/tokens", hold)
    await page.get_by_role("button", name="Create a token").click()
    await dialog.get_by_label("Name").fill("late")
    await dialog.get_by_role("button", name="Create").click()
    await page.evaluate("location.hash = '#/health'")
    await expect(page.get_by_role("heading", name="Health", level=1)).to_be_visible()
    async with page.expect_response(lambda answer: answer.request.method == "POST"):
        sent.set()
    await page.go_back()
    await expect(dialog.get_by_label("Token", exact=True)).to_be_visible()
    await page.go_back()
    await expect(dialog).to_have_count(0)
    await expect(page).to_have_url(re.compile("#/tokens$"))
    await page.unroute("**/tokens")


async def revoke(page: Page, console: Console) -> None:
    """Revoke the token of grafana."""
    row, dialog = page.get_by_role("row").filter(has_text="grafana"), page.get_by_role("dialog")
    await expect(row).to_contain_text("in 2 months")
    await row.get_by_role("button", name="Revoke").click()
    await expect(dialog).to_be_visible()
    await page.reload()
    await expect(dialog).to_contain_text("Revoke the token of grafana?")
    await console.picture(page, "revoke-token")
    await dialog.get_by_role("button", name="Revoke").click()
    await expect(row).to_contain_text("revoked")
    await expect(page.locator(":focus")).to_contain_text("The token of grafana is revoked.")
    await console.picture(page, "revoked-token")


async def follow_others(page: Page, daemon: Daemon) -> None:
    """See what others do with tokens, as on the command line, and what is refused to them."""
    row = page.get_by_role("row").filter(has_text="elsewhere")
    made = await asyncio.to_thread(daemon.local, "token_create", {"name": "elsewhere", "role": "reader"})
    assert bearing(daemon, made["token"])("GET", "/drift").status == 403
    await expect(row).to_contain_text("drift")
    await page.get_by_role("link", name="Tokens").click()
    await expect(row).to_contain_text("valid")
    await asyncio.to_thread(daemon.local, "token_revoke", {"token_id": made["token_id"]})
    await expect(row).to_contain_text("revoked")


async def test_an_administrator_creates_and_revokes_tokens(make_daemon: Callable[..., Daemon], console: Console):
    """The text is shown once and kept nowhere; the own token is marked, and revoking it asks for another one."""
    console.allow(r"status 401")
    daemon = make_daemon().keep_services("voice_router").start()
    open_page = await console.show(daemon, "#/tokens")
    await expect(open_page.get_by_text("The first token is made on the machine of the daemon.")).to_be_visible()
    await expect(open_page.get_by_role("button", name="Create a token")).to_have_count(0)
    token = daemon.local("token_create", {"name": "mario", "role": "admin"})["token"]
    page = await console.show(daemon, "#/tokens", open_page)
    await page.get_by_role("dialog").get_by_label("Token", exact=True).fill(token)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("row").filter(has_text="that of this page")).to_contain_text("mario")

    made = await create(page, console)
    assert daemon.http("GET", "/metrics", headers={"Authorization": f"Bearer {made}"}).status == 200
    reading = daemon.http("GET", "/config/voice_router", headers={"Authorization": f"Bearer {made}"})
    assert reading.status == 403
    assert made not in await page.content()
    kept = await page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href, history.state])")
    assert made not in kept
    await revoke(page, console)
    assert daemon.http("GET", "/metrics", headers={"Authorization": f"Bearer {made}"}).status == 401

    # What it was refused is in the audit log.
    await page.get_by_role("link", name="Audit").click()
    await page.get_by_label("Outcome").select_option("refused")
    await expect(page.get_by_role("row").filter(has_text="grafana").first).to_contain_text("voice_router")
    await page.get_by_role("link", name="Tokens").click()
    await page.get_by_role("row").filter(has_text="mario").get_by_role("button", name="Revoke").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("This page uses it.")
    await dialog.get_by_role("button", name="Revoke").click()
    await expect(page.get_by_role("dialog", name="Enter a token")).to_be_visible()


@pytest.mark.soak
async def test_tokens_are_followed_wherever_one_goes(make_daemon: Callable[..., Daemon], console: Console):
    """What others do with tokens, and what is refused to them, is there without a look.

    A token that is made while one is elsewhere is shown to who comes back.
    """
    daemon = make_daemon().keep_services("voice_router").start()
    console.sign_in(daemon.local("token_create", {"name": "mario", "role": "admin"})["token"])
    page = await console.show(daemon, "#/tokens")
    await leave_early(page)
    await console.show(daemon, "#/audit?outcome=refused", page)
    await follow_others(page, daemon)


async def test_the_audit_log_is_searched(module_daemon: Daemon, console: Console):
    """By service, caller and outcome; live, with links to the revisions."""
    changed = await change(module_daemon, "event_scheduler", requests_per_minute=304)
    page = await console.show(module_daemon, "#/audit")
    await page.get_by_label("Service").fill("event_scheduler")
    await page.keyboard.press("Enter")
    log = page.locator("main table tbody tr")
    await expect(log).to_have_count(2)
    assert "service=event_scheduler" in page.url
    await expect(page.get_by_label("Service")).to_be_focused()
    await page.get_by_label("Outcome").select_option("refused")
    await expect(page.get_by_text("Nothing like that is recorded.")).to_be_visible()
    await page.get_by_label("Outcome").select_option("all")
    await page.get_by_label("Caller").fill("files")
    await page.keyboard.press("Enter")
    await expect(log).to_have_count(1)
    await page.get_by_label("Caller").fill("")
    await page.keyboard.press("Enter")
    await expect(log).to_have_count(2)
    # Another change is there without a look.
    again = await change(module_daemon, "event_scheduler", requests_per_minute=305)
    await expect(log.first).to_contain_text(f"{changed['revision']} → {again['revision']}")
    await log.first.get_by_role("link", name=str(again["revision"]), exact=True).click()
    await expect(page).to_have_url(re.compile(rf"tab=history&rev={again['revision']}"))

    # How far back somebody went is in the address.
    async def short(route: Any) -> None:
        await route.continue_(url=route.request.url.replace("limit=200", "limit=2"))

    await page.route(re.compile(r"/audit\?"), short)
    await console.show(module_daemon, "#/audit", page)
    older = page.get_by_role("button", name="Load older entries")
    for count in (4, 6):
        await press(page, older)
        await expect(log).to_have_count(count)
        await expect(older).to_be_focused()
    await expect(page).to_have_url(re.compile("older=2$"))
    await page.reload()
    await expect(log).to_have_count(6)
    await page.get_by_label("Outcome").select_option("done")
    await expect(page).to_have_url(re.compile("outcome=done$"))


async def test_the_health_is_told_in_words_and_without_events_too(module_daemon: Daemon, console: Console):
    """A page for which no stream is left says so, and is live as soon as there is one; so is the tab that is used."""
    console.allow(r"status 503: GET \S+/events")
    page = await console.page()

    async def taken(route: Any) -> None:
        await route.fulfill(status=503, headers={"Retry-After": "1"}, json={"status": "error", "code": "busy"})

    await page.route("**/events", taken)
    await console.show(module_daemon, "#/health", page)
    notice = page.get_by_role("status").filter(has_text="no event stream left for this page")
    await expect(notice).to_be_visible()
    await expect(page.get_by_text("not live", exact=True)).to_be_visible()
    await page.unroute("**/events")
    await expect(page.get_by_text("live", exact=True)).to_be_visible()
    await expect(notice).to_have_count(0)
    await expect(page.get_by_text("The daemon is healthy.")).to_be_visible()
    version = module_daemon.http("GET", "/health").json["version"]
    for said in ("connected", "in force", "A load balancer may send requests here.", "leads", version):
        await expect(page.locator("main")).to_contain_text(said)
    # A browser opens few connections to one daemon, so that only some tabs have a stream: those that were used last.
    await page.evaluate(
        """() => {
          const others = new BroadcastChannel("aliciacfg event streams");
          for (const id of ["1", "2", "3"]) others.postMessage({ id, used: Date.now() + 1e6, asks: false });
        }"""
    )
    await expect(page.get_by_text("not live", exact=True)).to_be_visible()
    await page.evaluate("dispatchEvent(new Event('focus'))")
    await expect(page.get_by_text("live", exact=True)).to_be_visible()


async def test_a_screen_that_fails_leaves_the_rest_of_the_page(module_daemon: Daemon, console: Console):
    """A fault of the page makes one screen say so; the others go on."""
    page = await console.page()
    found = {"kind": "file", "subject": "dev.yaml", "message": "It differs.", "since": 1}

    async def drift(route: Any) -> None:
        await route.fulfill(json={"status": "success", "request_id": None, "drift": [found], "found": {"file": 1}})

    # The time of a difference cannot be written.
    await page.add_init_script(
        """Object.defineProperty(Intl.DateTimeFormat.prototype, "format", {
             get: () => { if (location.hash === "#/drift") throw new Error("a fault"); return String; } })"""
    )
    await page.route(re.compile(r"/drift$"), drift)
    await console.show(module_daemon, "#/drift", page)
    await expect(page.get_by_role("alert")).to_contain_text("This screen failed.")
    await page.get_by_role("link", name="Health", exact=True).click()
    await expect(page.get_by_text("The daemon is healthy.")).to_be_visible()

    # As a daemon answers that began with files that it cannot read.
    console.allow("status 503")
    why = "The schema files cannot be used; see the health alerts."

    async def unavailable(route: Any) -> None:
        await route.fulfill(status=503, json={"status": "error", "code": "unavailable", "message": why})

    await page.route("**/config/schema/*", unavailable)
    await console.show(module_daemon, "#/services/stt_service", page)
    await expect(page.get_by_role("alert")).to_contain_text(why)
    await page.get_by_role("link", name="History", exact=True).click()
    await expect(page.get_by_role("table")).to_contain_text("Revision 1")
    await page.unroute("**/config/schema/*")
    await page.get_by_role("link", name="Form", exact=True).click()
    await expect(page.get_by_role("textbox", name="requests_per_minute")).to_be_visible()


async def test_a_daemon_of_another_version_offers_to_load_the_page_again(module_daemon: Daemon, console: Console):
    page = await console.page()
    versions = iter(["1.0.0", "1.0.0", "1.1.0"])

    async def hello(route: Any) -> None:
        """Begin a stream as a daemon does, and end it."""
        if (version := next(versions, None)) is None:
            await route.abort()
            return
        said = {"epoch": 1, "sequence": 1, "environment": "dev", "version": version, "instance": "i", "resumed": True}
        body = f"retry: 2000\n\nid: 1.1\nevent: hello\ndata: {json.dumps(said)}\n\n"
        await route.fulfill(content_type="text/event-stream", body=body)

    console.allow(r"failed: GET \S+/events")
    await page.route(re.compile(r"/events$"), hello)
    await console.show(module_daemon, "#/health", page)
    notice = page.get_by_role("status").filter(has_text="The daemon was updated from 1.0.0 to 1.1.0.")
    await expect(notice).to_be_visible()
    async with page.expect_event("load"):
        await notice.get_by_role("button", name="Load the page again").click()
    await settled(page)
    await expect(notice).to_have_count(0)
