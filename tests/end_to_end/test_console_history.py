"""The console's screens for what was, what is elsewhere and what would be: history, comparison, activation."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from console_browser import Console, has_address, press, settled, tab_to
from daemons import Daemon, serving
from mqtt_clients import client

SECRET = "planted-secret-3b7f"


def two_environments(daemon: Daemon) -> None:
    """Lay out three services in a protected staging that can be activated, and in a prod that lacks secrets."""
    daemon.keep_services("voice_router", "tts_service", "ai_service")
    dev = (daemon.environments / "dev.yaml").read_text()
    (daemon.environments / "dev.yaml").write_text(dev.replace("alicia-dev-only", SECRET))
    staged = dev.replace("log_level: DEBUG", "log_level: INFO").replace(
        "\n  features:", "\n  note: night\n  features:", 1
    )
    (daemon.environments / "staging.yaml").write_text(f"protected: true\n{staged}")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for the tests of this file; the active environment is dev before and after each."""
    with serving(tmp_path_factory.mktemp("home"), two_environments, asyncio_debug=None) as made:
        yield made


def create(daemon: Daemon, service: str, **settings: Any) -> None:
    """Create a configuration of a service that no file names."""
    config = daemon.config("voice_router")["config"]
    del config["service_name"]
    config["settings"] = settings
    config["mqtt_config"]["password"] = SECRET
    done = daemon.http("PUT", f"/config/{service}", config)
    assert done.status == 201, done.body


def change(daemon: Daemon, service: str, query: str = "", **settings: Any) -> None:
    done = daemon.http("PATCH", f"/config/{service}{query}", {"settings": settings})
    assert done.status == 200, done.body


def row(page: Page, name: str) -> Any:
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name))


def values(page: Page | Locator, pointer: str) -> Any:
    """The rows of a place's old and new value."""
    return page.locator(".differences > li").filter(has_text=pointer).locator(".value")


async def test_the_history_shows_old_and_new_values_and_follows_changes(home: Daemon, console: Console):
    """Of each revision against the one before or any other; every choice is in the address, and Back undoes it."""
    create(home, "h_values", limit=9007199254740993, text="one\ntwo\nthree\n")
    change(home, "h_values", "?comment=for+the+party", limit=9007199254740992)
    change(home, "h_values", text="one\n2\nthree\n")
    page = await console.show(home, "#/services/h_values?tab=history")
    await expect(row(page, "Revision 2")).to_contain_text("for the party")
    await row(page, "Revision 2").get_by_role("button", name="Differences").click()
    await expect(values(page, "/settings/limit")).to_have_text(
        [re.compile("revision 1: 9007199254740993"), re.compile("revision 2: 9007199254740992")]
    )
    await row(page, "Revision 3").get_by_role("button", name="Differences").click()
    shown = values(page, "/settings/text")
    await expect(shown.locator("code")).to_have_text(["one", "two", "2", "three"])
    await page.get_by_label("Compare revision 3 with").select_option("1")
    await expect(values(page, "/settings/limit").locator("code")).to_have_text(["9007199254740993", "9007199254740992"])
    # The address alone brings the same view back; a change made elsewhere appears in it.
    again = await console.show(home, "#" + page.url.partition("#")[2])
    await expect(values(again, "/settings/limit")).to_have_count(2)
    change(home, "h_values", limit=1)
    await expect(row(again, "Revision 4")).to_contain_text("current")
    secret = {"mqtt_config": {"password": f"{SECRET}-2"}}
    assert home.http("PATCH", "/config/h_values", secret).status == 200
    await row(again, "Revision 5").get_by_role("button", name="Differences").click()
    await expect(again.get_by_text("A secret with another value, which is not shown.")).to_be_visible()
    assert SECRET not in await again.content()
    await page.go_back()
    await expect(row(page, "Revision 2").get_by_role("button", name="Differences")).to_have_attribute(
        "aria-expanded", "true"
    )
    await page.get_by_label("Whole configuration").check()
    await expect(page.locator(".document .value.same").first).to_be_visible()
    assert SECRET not in await page.content()


async def test_a_rollback_is_reviewed_and_reaches_a_subscriber_by_keyboard(home: Daemon, console: Console):
    """The button names both revisions; afterwards the focus is on what was done, and the history has it."""
    create(home, "h_back", limit=1)
    change(home, "h_back", limit=2)
    change(home, "h_back", limit=3)
    page = await console.show(home, "#/services/h_back?tab=history")
    async with client(home.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/update/h_back")
        assert (await mqtt.next()).json["revision"] == 3
        link = row(page, "Revision 1").get_by_role("link", name="Restore")
        await press(page, link)
        await expect(page.get_by_role("heading", name="Back to the values of revision 1")).to_be_focused()
        await page.go_back()
        await expect(page.get_by_role("heading", name="h_back")).to_be_focused()
        await press(page, link)
        await expect(values(page, "/settings/limit").locator("code")).to_have_text(["3", "1"])
        await console.picture(page, "rollback")
        await tab_to(page, page.get_by_label("Comment"))
        await page.keyboard.type("enough")
        await press(page, page.get_by_role("button", name="Back to the values of revision 1, as revision 4"))
        update = (await mqtt.next()).json
        assert (update["revision"], update["config"]["settings"]) == (4, {"limit": 1})
    done = page.get_by_text("h_back is at revision 4, with the values of revision 1.")
    await expect(done).to_be_visible()
    assert "h_back is at revision 4" in await page.evaluate("document.activeElement.textContent")
    await expect(row(page, "Revision 4")).to_contain_text("rollback")
    await expect(row(page, "Revision 4")).to_contain_text("enough")


@pytest.mark.soak
async def test_a_rollback_that_was_overtaken_shows_what_changed_and_sends_nothing(home: Daemon, console: Console):
    """Also if the other change is not known yet when the button is pressed: then the daemon refuses."""
    create(home, "h_race", limit=1)
    change(home, "h_race", limit=2)
    page = await console.show(home, "#/services/h_race?tab=history&back=1")
    button = page.get_by_role("button", name="Back to the values of revision 1, as revision 3")
    await expect(button).to_be_visible()
    change(home, "h_race", "?comment=meanwhile", limit=5)
    await expect(page.get_by_role("alert")).to_contain_text("h_race was changed while you looked at this")
    await expect(page.get_by_role("alert")).to_contain_text("meanwhile")
    review = page.get_by_role("region", name="Back to the values of revision 1")
    await expect(values(review, "/settings/limit").locator("code")).to_have_text(["2", "5"])
    await page.get_by_role("button", name="Look at it again, based on revision 3").click()
    await expect(values(review, "/settings/limit").locator("code")).to_have_text(["5", "1"])
    # Without events, as if they were late.
    await page.route("**/events*", lambda route: route.abort())
    await page.reload()
    await settled(page)
    console.allow(r"failed: GET \S+/events", r"status 412: POST \S+/rollback", "console: ")
    button = page.get_by_role("button", name="Back to the values of revision 1, as revision 4")
    await expect(button).to_be_visible()
    change(home, "h_race", limit=6)
    await button.click()
    # Without events the page may say meanwhile, too, that the daemon does not answer.
    await expect(page.get_by_role("alert").filter(has_text="Nothing was sent")).to_be_visible()
    assert home.config("h_race")["config"]["settings"] == {"limit": 6}


@pytest.mark.soak
async def test_a_deleted_configuration_comes_back(home: Daemon, console: Console):
    """The history shows the end of it, and the way back to the last values, also if an answer is lost."""
    create(home, "h_gone", limit=1)
    assert home.http("DELETE", "/config/h_gone").json["remains"] is False
    console.allow(
        r"status 404: GET \S+/config/\S*h_gone", r"failed: POST \S+/rollback", r"status 409: POST \S+/rollback"
    )
    sent: list[dict[str, Any]] = []

    async def lose(route: Route) -> None:
        sent.append(json.loads(route.request.post_data or "{}"))
        if sent[-1].get("dry_run") or len([one for one in sent if not one.get("dry_run")]) > 1:
            await route.continue_()
            return
        await route.fetch()
        await route.abort()

    page = await console.show(home, "#/services/h_gone?tab=history&env=dev")
    await expect(row(page, "Revision 2")).to_contain_text("deleted")
    await page.route("**/rollback", lose)
    await row(page, "Revision 1").get_by_role("link", name="Restore").click()
    await expect(values(page, "/settings/limit").locator("code")).to_have_text(["1"])
    await page.get_by_role("button", name="Back to the values of revision 1, as revision 3").click()
    await expect(page.get_by_role("definition").filter(has_text="3")).to_be_visible()
    await expect(page.get_by_text("h_gone is at revision 3")).to_be_visible()
    # The same request, and once carried out.
    assert [one["request_id"] for one in sent if not one.get("dry_run")] == [sent[-1]["request_id"]] * 2
    assert home.config("h_gone")["revision"] == 3
    assert home.config("h_gone")["config"]["settings"] == {"limit": 1}


@pytest.mark.soak
async def test_older_revisions_are_listed_and_compared(home: Daemon, console: Console):
    """The list grows when it is asked to, and stays as long after a reload; any two revisions can be chosen."""
    create(home, "h_many", limit=0)
    updates = [{"service": "h_many", "patch": {"settings": {"limit": number}}} for number in range(1, 60)]
    assert home.http("POST", "/configs/batch", {"updates": updates}).json["applied"] == 59
    page = await console.show(home, "#/services/h_many?tab=history")
    await expect(page.get_by_text("50 revisions, the newest ones")).to_be_visible()
    await expect(row(page, "Revision 11")).to_be_visible()
    await page.get_by_role("button", name="Older revisions").click()
    await expect(page.get_by_text("60 revisions.")).to_be_visible()
    await page.reload()
    await expect(page.get_by_text("60 revisions.")).to_be_visible()
    page = await console.show(home, "#/services/h_many?tab=compare&env=dev", page)
    compared = page.locator("ul.differences").first.locator(".value code")
    first, second = page.get_by_role("group", name="First side"), page.get_by_role("group", name="Second side")
    # No other environment has it, so the other side is its own.
    await expect(second.get_by_label("Environment")).to_have_value("dev")
    await expect(page.get_by_text("Both sides are the same.")).to_be_visible()
    await first.get_by_label("Revision").select_option("3")
    await expect(compared).to_have_text(["2", "59"])
    change(home, "h_many", limit=100)
    await expect(compared).to_have_text(["2", "100"])
    await page.get_by_role("button", name="Swap sides").click()
    await expect(compared).to_have_text(["100", "2"])
    assert "rev2=3" in page.url


async def test_environments_are_compared_service_by_service(home: Daemon, console: Console):
    """The overview says which services differ; one of them shows what, what one side lacks, and how it is corrected.

    A value of the other side is taken into a draft.
    """
    page = await console.show(home, "#/compare?env1=dev&env2=prod")
    await expect(page.get_by_text(re.compile(r"^\d+ of \d+ services differ\.$"))).to_be_visible()
    await expect(row(page, "voice_router")).to_contain_text("not valid in prod")
    await page.get_by_role("link", name="ai_service").click()
    await expect(page.get_by_role("heading", name="Compare ai_service")).to_be_visible()
    await expect(page.get_by_text("prod lacks 3 secrets that dev has.")).to_be_visible()
    await expect(page.get_by_text("aliciacfg secret generate prod")).to_be_visible()
    await page.get_by_label("Filter").fill("log_level")
    await expect(page.locator(".differences > li")).to_have_count(1)
    await expect(values(page, "/settings/log_level").locator("code")).to_have_text(['"DEBUG"', '"WARNING"'])
    await page.get_by_role("button", name="Swap sides").click()
    await expect(values(page, "/settings/log_level").locator("code")).to_have_text(['"WARNING"', '"DEBUG"'])
    await page.go_back()
    await expect(values(page, "/settings/log_level").locator("code")).to_have_text(['"DEBUG"', '"WARNING"'])
    await console.picture(page, "compare")
    await page.go_back()
    await expect(page.get_by_role("heading", name="Compare environments")).to_be_visible()
    assert SECRET not in await page.content()
    await _take_over(home, console, page)


async def _take_over(home: Daemon, console: Console, page: Page) -> None:
    """Take a value of staging into a draft of dev: nothing is sent, it is an edit of the service like others."""
    await console.show(home, "#/services/tts_service?tab=compare&env=dev&env1=dev&env2=staging", page)
    await expect(values(page, "/settings/log_level")).to_have_count(2)
    await press(page, page.get_by_role("button", name="Take it into the draft of dev (/settings/log_level)"))
    await expect(page.get_by_role("status").filter(has_text="Nothing was sent")).to_be_visible()
    # The button is gone: the focus is at what follows it.
    await expect(page.locator("main :focus")).to_be_visible()
    assert not [request for request in console.requests if request.method in {"PATCH", "PUT"}]
    await page.get_by_role("link", name="Look at the draft").click()
    await expect(page.get_by_role("region", name="Unsent edits")).to_contain_text("1")
    assert home.config("tts_service")["config"]["settings"]["log_level"] == "DEBUG"


async def test_an_environment_is_activated_after_its_dry_run(home: Daemon, console: Console):
    """Old and new values, who restarts, a last question that names it all; another screen follows at once."""
    page = await console.show(home, "#/environments")
    other = await console.show(home, "#/environments/dev")
    await row(page, "staging").get_by_role("link", name="Activate").click()
    await expect(page.get_by_role("heading", name="Activate staging instead of dev")).to_be_focused()
    await expect(values(page, "/settings/log_level").locator("code")).to_have_text(['"DEBUG"', '"INFO"'])
    assert SECRET not in await page.content()
    await console.picture(page, "activate")
    before = home.http("GET", "/environments").json["active"]
    # What somebody closed or opened is in the address.
    await page.get_by_text("Nothing else in all 3 services").click()
    await expect(page).to_have_url(re.compile("shut=-alike"))
    ask = page.get_by_role("button", name="Activate staging: 3 services change")
    await press(page, ask)
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Comment").fill("the house is empty")
    await has_address(page, dialog, ask)
    await expect(page.locator("ul.names")).to_be_hidden()
    await expect(dialog.get_by_label("Comment")).to_have_value("the house is empty")
    await console.picture(page, "activate-question")
    # Somebody changes what it would change, after it was looked at.
    change(home, "voice_router", log_level="ERROR")
    await expect(dialog.get_by_role("button", name="Activate staging")).to_be_disabled()
    await tab_to(page, dialog.get_by_label("staging is protected. Type its name to go on"))
    await page.keyboard.type("staging")
    await press(page, dialog.get_by_role("button", name="Activate staging"))
    await expect(dialog).to_contain_text("Nothing was sent")
    assert home.http("GET", "/environments").json["active"] == before == "dev"
    await press(page, dialog.get_by_role("button", name="Activate staging"))
    await expect(page.get_by_text("staging is active; 3 services have another configuration.")).to_be_visible()
    assert home.http("GET", "/environments").json["active"] == "staging"
    await expect(other.get_by_text("staging is active.")).to_be_visible()
    # To leave what is protected is asked, too.
    await console.show(home, "#/environments/dev?activate=1&confirm=1", other)
    await expect(other.get_by_label("staging is protected. Type dev to make that active instead")).to_be_visible()
    await expect(other.get_by_role("dialog").get_by_role("button", name="Activate dev")).to_be_disabled()
    assert home.http("POST", "/environments/dev/activate").status == 200


async def test_an_environment_that_cannot_be_activated_says_why(home: Daemon, console: Console):
    """By file and line, with the commands that correct it, and what would change apart from that."""
    console.allow(r"status 422: POST \S+/environments/prod/activate")
    page = await console.show(home, "#/environments/prod?activate=1")
    await expect(page.get_by_role("alert")).to_contain_text("prod cannot be activated")
    await expect(page.get_by_text("3 services: /mqtt_config/password: is missing")).to_be_visible()
    await page.get_by_text("What would change apart from that").click()
    await expect(values(page, "/mqtt_config/port").first).to_be_visible()
    # What puts some of it right meanwhile is there without a look, but for the trial, which is asked for.
    other = await console.show(home, "#/environments/prod")
    await expect(row(other, "tts_service")).to_contain_text("/mqtt_config/password")
    secret = {"mqtt_config": {"password": SECRET}}
    assert home.http("PATCH", "/config/tts_service?environment=prod&expected_revision=0", secret).status == 201
    await expect(row(other, "tts_service")).not_to_contain_text("/mqtt_config/password")
    await page.get_by_role("button", name="Look again").click()
    await expect(page.get_by_text("3 services: /mqtt_config/password: is missing")).to_have_count(0)


@pytest.fixture
def edited_home(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon for a test whose edits of files stay."""
    with serving(tmp_path / "home", two_environments, asyncio_debug=None) as made:
        yield made


async def test_files_are_looked_at_and_loaded(edited_home: Daemon, console: Console):
    """The dry run of a reload says what edits change; refused ones are listed by file and line.

    What a migration changes stands there before it is chosen; the run-time changes are migrated afterwards.
    """
    home = edited_home
    file = home.environments / "dev.yaml"
    before = file.read_text()
    page = await console.show(home, "#/environments")
    await page.get_by_role("button", name="Look at the files").click()
    await expect(page.get_by_text("0 configurations of dev would change.")).to_be_visible()
    try:
        console.allow(r"status 422: POST \S+/reload")
        file.write_text(before + "\nservices: [\n")
        await page.get_by_role("button", name="Load the files").click()
        await expect(page.get_by_text("environments/dev.yaml").last).to_be_visible()
        await expect(page.get_by_role("alert").first).to_be_visible()
    finally:
        file.write_text(before)
    await page.get_by_role("button", name="Load the files").click()
    await expect(page.get_by_text("The files are loaded")).to_be_visible()
    await _migrate(home, console, page)


async def _migrate(home: Daemon, console: Console, page: Page) -> None:
    assert home.http("PATCH", "/config/tts_service", {"limits": {"old": 5}}).status == 200
    folder = home.directory / "schemas" / "tts_service" / "migrations"
    folder.mkdir(parents=True)
    (folder / "1-to-2.yaml").write_text("- {op: move, from: /limits/old, path: /limits/new}\n")
    schema = home.directory / "schemas" / "tts_service.yaml"
    schema.write_text(schema.read_text().replace("version: 1.0.0", "version: 2.0.0"))
    for route in ("#/environments", "#/environments?files=1"):
        await console.show(home, route, page)
    await expect(page.get_by_role("heading", name="Migration of tts_service from 1.0.0 to 2.0.0")).to_be_visible()
    await page.get_by_label("Carry out 1 migration").check()
    await expect(values(page, "/limits/new").first).to_be_visible()
    await console.picture(page, "migration")
    await page.get_by_role("button", name="Load the files and migrate").click()
    await expect(page.get_by_text("The files are loaded")).to_be_visible()
    limits = home.config("tts_service")["config"]["limits"]
    assert (limits.get("old"), limits["new"]) == (None, 5)
