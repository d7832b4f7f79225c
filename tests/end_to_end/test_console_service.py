"""The screen of one service in a real browser: edits, their review, conflicts, drafts, secrets, the raw editor."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from brokers import Broker
from callers import bearing, token
from console_browser import PHONE, Console, has_address, has_focus, press, settled, tab_to
from daemons import Daemon
from mqtt_clients import client

ON_UVLOOP = True
HOME_SERVICES = (
    "ai_service", "discovery_service", "event_scheduler", "grok_integration", "health_monitor", "metrics_collector",
    "sonos_service", "stt_service", "tts_service",
)  # fmt: skip
PLANTED = "planted-secret-71c3"
PASTE = """(content, text) => {
  const clipboardData = new DataTransfer();
  clipboardData.setData("text/plain", text);
  content.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
}"""
STORAGE = "() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }])"


def bar(page: Page) -> Locator:
    return page.get_by_role("region", name="Unsent edits")


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


async def patch(daemon: Daemon, service: str, body: object, query: str = "") -> dict[str, Any]:
    answer = await asyncio.to_thread(daemon.http, "PATCH", f"/config/{service}{query}", body)
    assert answer.status in {200, 201}, answer.body
    return answer.json


async def review(page: Page, *, dry_run: bool = True) -> Locator:
    """Open the review, and wait until the daemon has tried out the edits."""
    await bar(page).get_by_role("button", name="Review …").click()
    if dry_run:
        await expect(dialog(page).get_by_role("button", name="Apply to")).to_be_enabled()
    return dialog(page)


async def apply(page: Page) -> None:
    await dialog(page).get_by_role("button", name="Apply to").click()
    await expect(dialog(page)).to_have_count(0)


async def places(page: Page) -> list[str]:
    """Return the places that the review lists."""
    return await dialog(page).locator(".differences .place code").all_inner_texts()


async def test_a_flag_is_changed_by_keyboard_and_arrives_and_is_undone(module_daemon: Daemon, console: Console):
    """From the list to the subscriber and back without a mouse; nothing is sent before the review."""
    page = await console.show(module_daemon)
    await press(page, page.get_by_role("link", name="tts_service", exact=True))
    flag = page.get_by_role("checkbox", name="audio_generation", exact=True)
    # With nothing to say, the bar is no place to scroll, at which the Tab key would stop.
    assert await bar(page).evaluate("bar => getComputedStyle(bar).overflowY") == "visible"
    before = module_daemon.config("tts_service")
    async with client(module_daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/update/tts_service")
        await press(page, flag, "Space")
        # The shortcut spares the way through all fields.
        await page.keyboard.press("Control+s")
        await expect(dialog(page).get_by_role("button", name="Apply to dev")).to_be_enabled()
        assert await has_focus(dialog(page).get_by_role("heading", level=2))
        await expect(dialog(page).locator(".differences > li")).to_contain_text("false")
        await console.picture(page, "review")
        await tab_to(page, dialog(page).get_by_label("Comment"))
        await page.keyboard.type("too loud")
        assert module_daemon.config("tts_service")["revision"] == before["revision"]
        assert [each.url for each in console.requests if each.method == "PATCH" and "dry_run" not in each.url] == []
        await page.keyboard.press("Enter")
        update = await _revision(mqtt, before["revision"] + 1)
        assert update["config"]["features"]["audio_generation"] is False
        assert update["changed"] == ["/features/audio_generation"]
        await expect(bar(page).locator(".line.good")).to_be_focused()
        await expect(bar(page)).to_contain_text(f"Revision {before['revision'] + 1} is in force.")
        await expect(flag).not_to_be_checked()
        newest = module_daemon.http("GET", "/config/tts_service/history?limit=1").json["revisions"][0]
        assert newest["comment"] == "too loud"

        await press(page, bar(page).get_by_role("button", name="Undo …"))
        await expect(dialog(page).get_by_role("button", name="Apply to dev")).to_be_enabled()
        await page.reload()
        await expect(dialog(page).get_by_role("heading", name="Review of the undo")).to_be_visible()
        await expect(dialog(page).get_by_role("button", name="Apply to dev")).to_be_enabled()
        await press(page, dialog(page).get_by_role("button", name="Apply to dev"))
        update = await _revision(mqtt, before["revision"] + 2)
    assert update["config"]["features"] == before["config"]["features"]
    await expect(flag).to_be_checked()
    await expect(bar(page)).to_contain_text("is undone")
    await expect(bar(page).locator(".line.good")).to_be_focused()
    # Nothing is tried out once more after it is applied.
    last = [each for each in console.requests if each.method == "POST"][-1]
    assert "dry_run" not in (last.post_data or "")


async def _revision(mqtt: Any, revision: int) -> dict[str, Any]:
    """Return the update of a revision; the retained one may come first."""
    while True:
        update = (await mqtt.until("alicia/config/update/tts_service")).json
        if update["revision"] == revision:
            return update


async def test_of_two_writers_the_second_decides(module_daemon: Daemon, console: Console):
    """What only the other one changed is taken over; what both changed waits, with both values."""
    page = await console.show(module_daemon, "#/services/stt_service")
    await page.get_by_label("max_audio_seconds", exact=True).fill("42")
    await page.get_by_label("stt_language", exact=True).fill("de")
    # The review is open when the other one writes.
    await review(page)
    await patch(module_daemon, "stt_service", {"settings": {"max_audio_seconds": 41, "whisper_model": "small"}})
    conflict = dialog(page).get_by_role("group", name="/settings/max_audio_seconds")
    await expect(conflict).to_be_visible()
    assert await conflict.locator("dd").all_inner_texts() == ["30", "42", "41"]
    await expect(dialog(page).get_by_role("button", name="Apply to dev")).to_be_disabled()
    await expect(page.get_by_label("whisper_model", exact=True).locator("option:checked")).to_have_text("small")
    await console.picture(page, "conflict")
    # The decision is asked for after a reload, too.
    await page.reload()
    await settled(page)
    await expect(conflict).to_be_visible()
    await conflict.get_by_role("button", name="Keep mine").click()
    await expect(dialog(page).get_by_role("button", name="Apply to dev")).to_be_enabled()
    assert sorted(await places(page)) == ["/settings/max_audio_seconds", "/settings/stt_language"]
    await apply(page)
    settings = module_daemon.config("stt_service")["config"]["settings"]
    assert (settings["max_audio_seconds"], settings["stt_language"], settings["whisper_model"]) == (42, "de", "small")


@pytest.mark.soak
async def test_a_write_that_meets_a_newer_revision_changes_nothing(module_daemon: Daemon, console: Console):
    """Without events the 412 tells it: the newer revision is read, and the review shows what is left to do."""
    console.allow("status 412: PATCH")
    page = await console.page()
    # As in a tab whose stream of events hangs.
    await page.route("**/events*", lambda _: None)
    await console.show(module_daemon, "#/services/sonos_service", page)
    volume = page.get_by_label("log_level", exact=True)
    await volume.select_option("ERROR")
    await review(page)
    made = await patch(module_daemon, "sonos_service", {"features": {"metrics": False}})
    await dialog(page).get_by_role("button", name="Apply to dev").click()
    await expect(dialog(page)).to_contain_text("Somebody else changed it first")
    assert module_daemon.config("sonos_service")["revision"] == made["revision"]
    await expect(dialog(page).get_by_role("button", name="Apply to dev")).to_be_enabled()
    await apply(page)
    config = module_daemon.config("sonos_service")["config"]
    assert (config["settings"]["log_level"], config["features"]["metrics"]) == ("ERROR", False)


async def test_a_change_elsewhere_is_shown_without_touching_what_is_typed(module_daemon: Daemon, console: Console):
    """By itself, at once; the field keeps focus, text and cursor, and no decision is needed."""
    page = await console.show(module_daemon, "#/services/ai_service")
    await expect(page.get_by_text("live", exact=True)).to_be_visible()
    field = page.get_by_label("max_tokens", exact=True)
    await field.press("End")
    await page.keyboard.type("1")
    typed = await field.input_value()
    flag = page.get_by_role("checkbox", name="metrics", exact=True)
    checked = await flag.is_checked()
    made = await patch(module_daemon, "ai_service", {"features": {"metrics": not checked}}, "?comment=from+elsewhere")
    await expect(flag).to_be_checked(checked=not checked)
    await expect(bar(page)).to_contain_text(f"Revision {made['revision']} by")
    await page.keyboard.type("2")
    assert await has_focus(field)
    assert await field.input_value() == typed + "2"
    await expect(bar(page)).not_to_contain_text("changed meanwhile")
    # The bar grew, and does not lie over the field.
    await page.wait_for_function(
        "([bar, field]) => field.getBoundingClientRect().bottom <= bar.getBoundingClientRect().top",
        arg=[await bar(page).element_handle(), await field.element_handle()],
    )
    await _one_message_at_a_time(module_daemon, page)


async def _one_message_at_a_time(daemon: Daemon, page: Page) -> None:
    """See on a phone the most urgent message above the edits, then the next; the review can be opened all the time."""
    await page.set_viewport_size({"width": PHONE, "height": 640})
    await page.reload()
    await settled(page)
    message = bar(page).locator(".line:not(.edits):visible")
    await expect(message).to_contain_text("Your draft was restored.")
    await expect(page.get_by_text("live", exact=True)).to_be_attached()
    made = await patch(daemon, "ai_service", {"limits": {"requests_per_minute": 4321}})
    await expect(message).to_contain_text(f"Revision {made['revision']} by")
    await expect(bar(page).get_by_role("button", name="Review …")).to_be_in_viewport(ratio=1)
    assert await bar(page).evaluate("bar => bar.offsetHeight < innerHeight / 3")
    await message.get_by_role("button", name="Dismiss").click()
    await expect(message).to_contain_text("Your draft was restored.")


@pytest.mark.soak
async def test_a_draft_outlives_the_page_and_has_no_secret(module_daemon: Daemon, console: Console):
    """It comes back after a reload and in a later tab; two open tabs have two; a discarded one is gone."""
    page = await console.show(module_daemon, "#/services/grok_integration")
    tokens = page.get_by_label("max_tokens", exact=True)
    await tokens.fill("4321")
    await page.get_by_label("grok_api_key", exact=True).fill(PLANTED)
    await expect(bar(page)).to_contain_text("2 unsent edits")
    page.on("dialog", lambda asked: asyncio.ensure_future(asked.accept()))
    await page.reload()
    await settled(page)
    await expect(bar(page)).to_contain_text("Your draft was restored.")
    await expect(bar(page)).to_contain_text("/settings/grok_api_key")
    await expect(tokens).to_have_value("4321")
    await expect(page.get_by_label("grok_api_key", exact=True)).to_have_value("")
    assert PLANTED not in await page.evaluate(STORAGE)

    other = await console.show(module_daemon, "#/services/grok_integration")
    await expect(bar(other)).to_contain_text("Another tab has unsent edits")
    await expect(other.get_by_label("max_tokens", exact=True)).not_to_have_value("4321")
    await other.get_by_label("max_tokens", exact=True).fill("1111")
    await expect(bar(other)).to_contain_text("1 unsent edit")
    await other.close()
    await expect(tokens).to_have_value("4321")
    await page.close()
    later = await console.show(module_daemon, "#/services/grok_integration")
    await expect(bar(later)).to_contain_text("Your draft was restored.")
    discard = bar(later).get_by_role("button", name="Discard …")
    await discard.click()
    await has_address(later, dialog(later), discard)
    await expect(dialog(later)).to_contain_text("1 place of grok_integration in dev.")
    await dialog(later).get_by_role("button", name="Discard", exact=True).click()
    await expect(bar(later).get_by_role("button", name="Review …")).to_have_count(0)
    for button in await bar(later).get_by_role("button", name="Discard that draft").all():
        await button.click()
    assert "draft/" not in await later.evaluate(STORAGE)


async def _text(page: Page) -> str:
    """Return the text of the raw editor."""
    return await page.locator(".raw-editor .cm-content").evaluate("one => one.cmTile.view.state.doc.toString()")


async def _replace(page: Page, settings: dict[str, Any] | None = None, text: str | None = None) -> None:
    """Paste a text into the raw editor: the configuration with other settings, or any text."""
    content = page.locator(".raw-editor .cm-content")
    await content.click()
    if text is None:
        document = json.loads(await _text(page))
        document["settings"].update(settings or {})
        text = json.dumps({name: value for name, value in document.items() if value is not None}, indent=2)
    await page.keyboard.press("Control+a")
    await content.evaluate(PASTE, text)


@pytest.mark.soak
async def test_hard_numbers_and_names_pass_through_every_editor(module_daemon: Daemon, console: Console):
    """Numbers beyond 2^53 and names with . / # ~ stay as they are, in the form, as JSON and as YAML.

    What takes one of them away is breaking, and asks first.
    """
    console.allow("status 409: PATCH")
    page = await console.show(module_daemon, "#/services/event_scheduler?tab=raw")
    document = json.loads(await _text(page))
    hard = {"a.b/c~d#e": 9007199254740993, "whole": 1, "nested/~": {"": "empty name"}}
    document["settings"].update(hard)
    await _replace(page, text=json.dumps(document).replace('"whole": 1', '"whole": 1.0'))
    await review(page)
    await expect(dialog(page).locator(".differences")).to_contain_text("/settings/a.b~1c~0d#e")
    await expect(dialog(page).locator(".differences")).to_contain_text("9007199254740993")
    await expect(dialog(page)).to_contain_text("not described by the schema")
    await apply(page)
    stored = module_daemon.http("GET", "/config/event_scheduler").body.decode()
    assert '"a.b/c~d#e":9007199254740993' in stored
    settings = json.loads(stored)["config"]["settings"]
    assert {name: settings[name] for name in hard} == hard
    await page.get_by_label("Format").select_option("YAML")
    await expect(page.get_by_role("textbox", name="as YAML")).to_be_visible()
    text = await _text(page)
    assert "a.b/c~d#e: 9007199254740993" in text
    await _replace(page, text=text.replace("9007199254740993", "9007199254740995"))
    await review(page)
    assert await places(page) == ["/settings/a.b~1c~0d#e"]
    await apply(page)
    await console.picture(page, "raw")
    await page.get_by_role("link", name="Form").click()
    await page.get_by_label("a.b/c~d#e", exact=True).fill("9007199254740997")
    await review(page)
    await console.picture(page, "review-hard")
    await apply(page)
    assert module_daemon.config("event_scheduler")["config"]["settings"]["a.b/c~d#e"] == 9007199254740997
    await page.get_by_role("link", name="Raw").click()
    await _remove(page, "a.b/c~d#e")
    assert "a.b/c~d#e" not in module_daemon.config("event_scheduler")["config"]["settings"]


async def _remove(page: Page, name: str) -> None:
    """Remove a setting: what disappears is named, and only a confirmation sends it."""
    await page.get_by_label("Format").select_option("JSON")
    await expect(page.get_by_role("textbox", name="as JSON")).to_be_visible()
    document = json.loads(await _text(page))
    del document["settings"][name]
    await _replace(page, text=json.dumps(document))
    await review(page, dry_run=False)
    await expect(dialog(page)).to_contain_text(f"/settings/{name.replace('~', '~0').replace('/', '~1')}")
    await expect(dialog(page).get_by_role("button", name="Apply to dev")).to_be_disabled()
    await dialog(page).get_by_role("checkbox", name="Do it nevertheless").check()
    await expect(dialog(page).get_by_role("button", name="Apply to dev")).to_be_enabled()
    await apply(page)


@pytest.mark.soak
async def test_a_text_follows_what_others_change(module_daemon: Daemon, console: Console):
    """What is typed stays as it is; what others changed meanwhile is not undone by it, and comes in when wanted.

    The text is YAML as well, if that is wanted. A value that the daemon refuses is listed with the focus on it;
    choosing it goes to its field in the form.
    """
    console.allow("status 422: PATCH", "status 409: PATCH")
    page = await console.show(module_daemon, "#/services/discovery_service?tab=raw")
    document = json.loads(await _text(page))
    await _replace(page, {"log_level": "ERROR"})
    await expect(bar(page)).to_contain_text("1 unsent edit")
    before = await _text(page)
    flag = not document["features"]["metrics"]
    await patch(module_daemon, "discovery_service", {"features": {"metrics": flag}})
    await expect(page.get_by_text("The text is older than the configuration.")).to_be_visible()
    assert await _text(page) == before
    await review(page)
    assert await places(page) == ["/settings/log_level"]
    await dialog(page).get_by_role("button", name="Back to editing").click()
    await page.get_by_role("button", name="Bring the text up to date").click()
    now = json.loads(await _text(page))
    assert (now["features"]["metrics"], now["settings"]["log_level"]) == (flag, "ERROR")
    await patch(module_daemon, "discovery_service", {"settings": {"log_level": "WARNING"}})
    await bar(page).get_by_role("button", name="Compare and decide …").click()
    await dialog(page).get_by_role("button", name="Take theirs").click()
    await expect(dialog(page)).to_contain_text("Nothing differs")
    await dialog(page).get_by_role("button", name="Back to editing").click()
    await expect(bar(page).get_by_role("button", name="Review …")).to_have_count(0)
    assert json.loads(await _text(page))["settings"]["log_level"] == "WARNING"
    for form, line in (("YAML", "  log_level: WARNING\n"), ("JSON", '"log_level": "WARNING"')):
        await page.get_by_label("Format").select_option(form)
        await expect(page.get_by_role("textbox", name=f"as {form}")).to_be_visible()
        assert line in await _text(page)
    await _replace(page, {"log_level": "SHOUT"})
    await expect(page.get_by_text("1 problem")).to_be_visible()
    await review(page, dry_run=False)
    await expect(dialog(page).get_by_role("alert")).to_be_focused()
    await dialog(page).get_by_role("button", name="/settings/log_level").click()
    await expect(dialog(page)).to_have_count(0)
    field = page.get_by_label("log_level", exact=True)
    await expect(field).to_be_focused()
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(bar(page)).to_contain_text("1 unsent edit")


@pytest.mark.soak
async def test_a_change_without_the_broker_is_saved_and_published_later(
    make_daemon: Callable[..., Daemon], broker: Broker, console: Console
):
    """The review and the bar say so, until the broker is back."""
    daemon = make_daemon(services=["tts_service"]).start()
    page = await console.show(daemon, "#/services/tts_service")
    await asyncio.to_thread(broker.stop)
    await expect(page.get_by_text("degraded", exact=True)).to_be_visible()
    await page.get_by_role("checkbox", name="metrics", exact=True).click()
    await review(page)
    await expect(dialog(page).get_by_role("alert").filter(has_text="The broker is away.")).to_be_visible()
    # What the change hides of the files is no warning.
    await expect(dialog(page).get_by_text("The change replaces a value of a file")).to_be_visible()
    await expect(dialog(page).get_by_text("Warnings", exact=True)).to_have_count(0)
    await apply(page)
    await expect(bar(page)).to_contain_text("Revision 2 is saved, and will be published when the broker is back.")
    await asyncio.to_thread(broker.start)
    await expect(bar(page)).to_contain_text("Revision 2 is in force.")


@pytest.mark.soak
async def test_what_is_typed_while_a_write_is_under_way_stays(module_daemon: Daemon, console: Console):
    """The review may be closed; the write goes on, and what it did not send is still there to be sent.

    A write whose answer is lost is done once: the console asks again with the same id, and finds its own revision.
    """
    console.allow("failed: PATCH", "status 412: PATCH")
    released, sent = asyncio.Event(), list[str]()

    async def hold_and_lose(route: Route) -> None:
        if route.request.method != "PATCH" or "dry_run" in route.request.url:
            await route.continue_()
            return
        sent.append(route.request.url)
        if len(sent) == 2:
            await route.fetch()
            await route.abort()
            return
        await released.wait()
        await route.continue_()

    page = await console.show(module_daemon, "#/services/metrics_collector")
    await page.route("**/config/metrics_collector?*", hold_and_lose)
    before = module_daemon.config("metrics_collector")["revision"]
    await page.get_by_role("checkbox", name="metrics", exact=True).click()
    await review(page)
    await dialog(page).get_by_role("button", name="Apply to").click()
    await expect(dialog(page).get_by_role("button", name="Apply to")).to_be_disabled()
    await dialog(page).get_by_role("button", name="Back to editing").click()
    await expect(bar(page)).to_contain_text("Applying")
    await page.get_by_label("log_level", exact=True).select_option("ERROR")
    await expect(bar(page)).to_contain_text("2 unsent edits")
    released.set()
    await expect(bar(page)).to_contain_text(f"Revision {before + 1} is in force.")
    await expect(bar(page)).to_contain_text("1 unsent edit")
    await review(page)
    assert await places(page) == ["/settings/log_level"]
    await apply(page)
    await expect(bar(page)).to_contain_text(f"Revision {before + 2} is in force.")
    assert len(sent) == 3
    assert module_daemon.config("metrics_collector")["revision"] == before + 2
    await expect(bar(page)).not_to_contain_text("unsent")


async def test_a_service_that_lacks_its_secrets_is_completed(module_daemon: Daemon, console: Console):
    """A service of the files without a configuration shows what they say and what is missing; typing it begins it."""
    console.allow(r"status 404: GET \S+/config/health_monitor\?")
    page = await console.show(module_daemon, "#/services/health_monitor?env=prod")
    await expect(page.get_by_text("has no configuration in prod yet")).to_be_visible()
    await page.get_by_role("button", name="/mqtt_config/password").first.click()
    password = page.get_by_label("password", exact=True)
    await expect(password).to_be_focused()
    await password.fill(PLANTED)
    await review(page)
    await expect(dialog(page)).to_contain_text("prod is protected.")
    await apply(page)
    assert module_daemon.config("health_monitor", "?environment=prod")["revision"] == 1


@pytest.mark.soak
async def test_edits_stay_with_their_environment(make_daemon: Callable[..., Daemon], console: Console):
    """What was typed for the active environment is for that one, also when another one becomes active meanwhile."""
    daemon = make_daemon(services=["tts_service"]).start()
    await patch(daemon, "tts_service", {"mqtt_config": {"password": "of-staging"}}, "?environment=staging")
    page = await console.show(daemon, "#/services/tts_service")
    field = page.get_by_label("max_text_characters", exact=True)
    await field.fill("777")
    await expect(page).to_have_url(re.compile("env=dev"))
    assert await has_focus(field)
    answer = await asyncio.to_thread(daemon.http, "POST", "/environments/staging/activate", {})
    assert answer.status == 200, answer.body
    await expect(page.get_by_text("not the active environment")).to_be_visible()
    await page.keyboard.type("7")
    assert await field.input_value() == "7777"
    assert await bar(page).evaluate("bar => bar.scrollHeight <= bar.clientHeight"), "the bar has a scroll bar"
    await review(page)
    await apply(page)
    assert daemon.config("tts_service", "?environment=dev")["config"]["settings"]["max_text_characters"] == 7777
    assert daemon.config("tts_service")["config"]["settings"]["max_text_characters"] != 7777


async def test_a_service_that_no_file_names_begins_ends_and_comes_back(module_daemon: Daemon, console: Console):
    """A new one without a schema is written as text; the history of a deleted one can still be read."""
    console.allow(r"status 404: GET \S+/(config|explain|schema)", "status 422: PATCH")
    page = await console.show(module_daemon, "#/services")
    await page.get_by_role("link", name="New service …").click()
    await page.get_by_label("Name", exact=True).fill("weather.display")
    await page.get_by_role("button", name="Write its configuration").click()
    await _replace(page, text='{"settings": {"units": "metric"}}')
    await review(page)
    await expect(dialog(page).locator(".differences")).to_contain_text("metric")
    await apply(page)
    await expect(bar(page)).to_contain_text("Revision 1 is in force.")
    await expect(page.get_by_text("is a new service")).to_have_count(0)
    await expect(bar(page).locator(".line").first).to_be_focused()
    assert module_daemon.config("weather.display")["config"]["settings"] == {"units": "metric"}
    await asyncio.to_thread(module_daemon.http, "DELETE", "/config/weather.display")
    page = await console.show(module_daemon, "#/services/weather.display")
    await expect(page.get_by_role("alert")).to_contain_text("weather.display")
    await page.get_by_role("link", name="History", exact=True).click()
    await expect(
        page.get_by_role("row").or_(page.get_by_role("listitem")).filter(has_text="1.0.0").first
    ).to_be_visible()


async def test_without_the_right_to_write_everything_is_read_only(make_daemon: Callable[..., Daemon], console: Console):
    """A reader sees all of it and why nothing can be changed; with another token the same page can, and sends it."""
    console.allow("status 401: ", "status 403: GET")
    daemon = make_daemon(services=["voice_router"]).start()
    reader, writer = token(daemon, "ann", role="reader"), token(daemon, "operator", role="admin")
    page = await console.show(daemon, "#/services/voice_router")
    await _use(page, reader)
    await expect(page.get_by_text("Read only.")).to_be_visible()
    await console.show(daemon, "#/new-service", page)
    await expect(page.get_by_text("You may read, but not change anything.")).to_be_visible()
    await console.show(daemon, "#/services/voice_router", page)
    flag = page.get_by_role("checkbox", name="metrics", exact=True)
    await expect(flag).to_be_disabled()
    await page.get_by_role("link", name="Raw").click()
    await expect(page.get_by_role("textbox", name="as JSON")).to_have_attribute("aria-readonly", "true")
    await console.picture(page, "read-only")
    await page.get_by_role("link", name="Form").click()
    await page.get_by_role("button", name="Forget the token").click()
    await _use(page, writer)
    await expect(flag).to_be_enabled()
    await flag.click()
    await review(page)
    await apply(page)
    newest = bearing(daemon, writer)("GET", "/config/voice_router/history?limit=1").json["revisions"][0]
    assert newest["author"].startswith("operator")
    assert writer not in page.url
    # All of it is taken back in one step.
    await page.get_by_role("button", name="Take back all run-time changes").click()
    await expect(dialog(page).locator(".differences")).to_contain_text("/features/metrics")
    await apply(page)
    assert bearing(daemon, writer)("GET", "/config/voice_router").json["config"]["features"]["metrics"] is True


@pytest.mark.soak
async def test_a_token_that_ends_costs_no_edit(make_daemon: Callable[..., Daemon], console: Console):
    """And no secret that was typed: the review asks for another token, and goes on."""
    console.allow("status 401: ", "status 403: GET")
    daemon = make_daemon(services=["voice_router"]).start()
    writer = token(daemon, "operator", role="admin")
    page = await console.show(daemon, "#/services/voice_router")
    await _use(page, writer)
    await page.get_by_label("max_sessions", exact=True).fill("99")
    await page.get_by_label("password", exact=True).fill(PLANTED)
    await _lose_sight(page, lambda: bearing(daemon, writer)("PATCH", "/config/voice_router", {"limits": {"extra": 7}}))
    ended = bearing(daemon, writer)("GET", "/tokens").json["tokens"]
    found = next(each["token_id"] for each in ended if each["name"] == "operator")
    later = token(daemon, "owner", role="admin")
    bearing(daemon, later)("POST", f"/tokens/{found}/revoke", {})
    await review(page, dry_run=False)
    await dialog(page).get_by_role("button", name="Enter a token").click()
    await _use(page, later)
    await expect(dialog(page).get_by_role("button", name="Apply to")).to_be_enabled()
    await expect(dialog(page).locator(".differences")).to_contain_text("/mqtt_config/password")
    await apply(page)
    assert bearing(daemon, later)("GET", "/config/voice_router").json["config"]["settings"]["max_sessions"] == 99


async def _lose_sight(page: Page, change: Callable[[], object]) -> None:
    """Have a service that changes be forbidden for a while: nothing of it is shown, and no edit is lost."""

    async def forbid(route: Route) -> None:
        answer = {"status": "error", "code": "forbidden", "message": "It is not yours.", "problems": []}
        await route.fulfill(status=403, json={**answer, "request_id": None})

    field = page.get_by_label("max_sessions", exact=True)
    typed = await field.input_value()
    await page.route("**/config/voice_router?*", forbid)
    change()
    await expect(page.get_by_role("alert")).to_contain_text("It is not yours.")
    await expect(field).to_have_count(0)
    await page.unroute_all()
    await page.get_by_role("button", name="Look again").click()
    await expect(field).to_have_value(typed)


async def _use(page: Page, text: str) -> None:
    """Answer the question for a token."""
    asking = page.get_by_role("dialog", name="Enter a token")
    await asking.get_by_label("Token", exact=True).fill(text)
    await asking.get_by_role("button", name="Use it").click()
    await expect(asking).to_have_count(0)
