"""No secret is found in what the console shows, keeps or sends, but in sealed boxes; and markup does nothing."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect

from builders import environment_file
from callers import token
from console_browser import Console, settled
from daemons import Daemon, serving
from machine import wait_until
from mqtt_clients import client
from page_traces import kept, sent
from secret_forms import forms

PLANTED = {
    "file": "planted-file-81ab2c90",
    "written": "planted-written-55d1e7f3",
    "sealed": "planted-sealed-0c9d4be2",
    "typed": "planted-typed-e4f71a68",
    "typed in raw": "planted-raw-b6a2903d",
    "refused": "planted-refused-77c3d5e1",
    "given up": "planted-given-up-19fe02ab",
}
MARKUP = '<img src=x onerror="window.markup=1"><script>window.markup=2</script>'
ROUTES = (
    "#/services", "#/services/ai_service", "#/services/ai_service?tab=raw", "#/services/ai_service?tab=history",
    "#/services/ai_service?tab=compare", "#/services/ai_service?tab=instances", "#/compare?service=ai_service",
    "#/instances", "#/environments", "#/environments/prod", "#/drift", "#/audit", "#/tokens", "#/health",
)  # fmt: skip


def _prepare(daemon: Daemon) -> None:
    daemon.keep_services("ai_service", "security_gateway", "tts_service", "voice_router")
    (daemon.environments / "access.yaml").write_text(
        "services:\n  tts_service: {secrets: plaintext}\nadmins: [operator]\n"
    )
    (daemon.environments / "dev-secrets.yaml").write_text(
        f"services:\n  ai_service:\n    settings: {{grok_api_key: {PLANTED['file']}}}\n"
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with rules, whose files and revisions hold secrets."""
    with serving(tmp_path_factory.mktemp("home"), _prepare, asyncio_debug=None) as made:
        yield made


FORMS = {name: forms(secret) for name, secret in PLANTED.items()}


def _found(places: dict[str, str], secrets: dict[str, dict[str, bytes]] = FORMS) -> list[tuple[str, str, str]]:
    """Return which secret is where, in which form."""
    return [
        (secret, form, place)
        for place, text in places.items()
        for content in [text.encode()]
        for secret, looks in secrets.items()
        for form, needle in looks.items()
        if needle in content
    ]


async def _enter_token(page: Page, token: str) -> None:
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Token").fill(token)
    await dialog.get_by_role("button", name="Use it").click()
    await expect(dialog).to_have_count(0)
    await settled(page)


async def _type_secret(page: Page, pointer: str, secret: str) -> None:
    field = page.locator(f'[data-pointer="{pointer}"] input').first
    await field.fill(secret)
    await expect(page.get_by_role("region", name="Unsent edits")).to_be_visible()


async def _apply(page: Page) -> None:
    await page.get_by_role("button", name="Review …").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Comment").fill("by hand")
    await dialog.get_by_role("button", name="Apply").click()
    await expect(dialog).to_have_count(0)


async def test_secrets_are_nowhere(home: Daemon, console: Console):
    """Not in a page, a storage, a request or an answer, whatever a person looks at, types, applies or gives up."""
    admin = token(home, "operator", role="admin")
    for service, secret in (("ai_service", "written"), ("voice_router", "sealed")):
        answer = home.http(
            "PATCH",
            f"/config/{service}",
            {"mqtt_config": {"password": PLANTED[secret]}},
            headers={"Authorization": f"Bearer {admin}"},
        )
        assert answer.status == 200, answer.body
    # Before the token; nothing in prod; a refused secret.
    console.allow("status 401", "status 404", r"status 422: \w+ \S+/security_gateway")
    console.note_finished()
    page = await console.show(home)
    await _enter_token(page, admin)
    seen: dict[str, str] = {}

    async def look(name: str, *, typing: bool = False) -> None:
        places = await kept(page)
        if typing:
            # What is typed is in its input, and nowhere else.
            del places["page"]
        seen.update({f"{name}: {place}": text for place, text in places.items()})

    # Typed, and given up by a reload: no draft has it.
    await console.show(home, "#/services/tts_service?filter=password", page)
    await _type_secret(page, "/mqtt_config/password", PLANTED["given up"])
    await look("typing", typing=True)
    await page.reload()
    await settled(page)
    await look("reloaded")
    # Typed and applied: the service gets it.
    await _type_secret(page, "/mqtt_config/password", PLANTED["typed"])
    await _apply(page)
    await look("applied")
    own = {"Authorization": f"Bearer {token(home, 'tts_service')}"}
    opened = home.http("GET", "/config/tts_service", headers=own)
    assert opened.json["config"]["mqtt_config"]["password"] == PLANTED["typed"]
    # The same in the raw editor.
    await console.show(home, "#/services/ai_service?tab=raw", page)
    document = home.http("GET", "/config/ai_service", headers={"Authorization": f"Bearer {admin}"}).json["config"]
    assert document["settings"]["openai_api_key"] == "***"
    document["settings"]["openai_api_key"] = PLANTED["typed in raw"]
    await page.get_by_role("textbox", name=re.compile("ai_service")).click()
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.insert_text(json.dumps(document, indent=2))
    await expect(page.get_by_role("region", name="Unsent edits")).to_be_visible()
    await look("typing in raw", typing=True)
    await _apply(page)
    await look("applied in raw")
    # One that the schema refuses: the message says so without it.
    await console.show(home, "#/services/security_gateway?filter=jwt_secret", page)
    await _type_secret(page, "/settings/jwt_secret", PLANTED["refused"][:14])
    await page.get_by_role("button", name="Review …").click()
    await expect(page.get_by_role("dialog")).to_contain_text("/settings/jwt_secret")
    await look("refused", typing=True)
    await page.reload()
    for route in ROUTES:
        await console.show(home, route, page)
        await look(route)
    await _check(console, seen, admin)


async def _check(console: Console, seen: dict[str, str], admin: str) -> None:
    """Search what was seen and sent for secrets, which are there in boxes, and for the token."""
    requests = await sent(console)
    assert _found(seen | requests) == []
    boxes = [text for name, text in requests.items() if "PATCH" in name and "sealed:v1:" in text]
    assert boxes
    # The token is in the storage of the tab and in one header.
    in_places = {place for _, _, place in _found(seen, {"token": {"open": admin.encode()}})}
    assert {place.rpartition(": ")[2] for place in in_places} == {"session storage"}
    without_header = {name: re.sub(r'"authorization": "Bearer [^"]*"', "", text) for name, text in requests.items()}
    assert _found(without_header, {"token": {"open": admin.encode()}}) == []


async def test_the_search_would_find_them(home: Daemon, console: Console):
    """The control: what a page shows, keeps and sends is found, in a shadow tree too."""
    page = await console.show(home)
    console.allow("status 40", "console: ")
    needle = PLANTED["typed"]
    await page.evaluate(
        """async needle => {
          localStorage.setItem("x", needle);
          sessionStorage.setItem("x", needle);
          history.replaceState({ needle }, "", "#/services?search=" + needle);
          const host = document.body.appendChild(document.createElement("div"));
          host.attachShadow({ mode: "open" }).appendChild(document.createElement("input")).value = needle;
          console.log(needle);
          await fetch("health", { headers: { "X-Needle": needle } });
          await fetch("config/x", { method: "PUT", body: needle });
        }""",
        needle,
    )
    only = {"typed": {"open": needle.encode()}}
    places = {place for _, _, place in _found(await kept(page), only)}
    assert places == {"page", "local storage", "session storage", "history", "history state"}
    requests = {re.sub(r"^\d+ |http://[^/]*", "", place) for _, _, place in _found(await sent(console), only)}
    assert {"messages", "GET /health", "PUT /config/x"} <= requests


async def test_markup_does_nothing(home: Daemon, console: Console):
    """Markup in keys, values, comments, files, reports and messages is shown as it is written; nothing of it runs."""
    admin = token(home, "operator", role="admin")
    headers = {"Authorization": f"Bearer {admin}"}
    settings = {MARKUP: MARKUP, "list": [MARKUP], "javascript": "javascript:window.markup=3"}
    revision = 0
    for number, comment in enumerate(("first", MARKUP)):
        patch = {"settings": {**settings, "number": number}}
        answer = home.http("PATCH", "/config/voice_router?comment=" + quote(comment), patch, headers=headers)
        assert answer.status == 200, answer.body
        revision = answer.json["revision"]
    refused = home.environments / "prod-secrets.yaml"
    refused.write_text(f"services:\n  voice_router:\n    settings: {{{json.dumps(MARKUP)}: [}}\n")
    home.http("POST", "/reload", headers=headers)
    report = {"instance": MARKUP, "status": "rejected", "error": MARKUP, "checksum": "", "revision": revision}
    async with client(home.broker_port) as mqtt:
        await mqtt.publish("alicia/config/applied/voice_router", report)
    wait_until(lambda: home.http("GET", "/drift", headers=headers).json["drift"])
    console.allow("status 40[014]")
    page = await console.show(home)
    await _enter_token(page, admin)
    shown: set[str] = set()
    typed = quote(MARKUP, safe="")
    routes = [route.replace("ai_service", "voice_router") for route in ROUTES]
    for route in (*routes, f"#/services?search={typed}", f"#/{typed}", f"#/services/{typed}"):
        await console.show(home, route, page)
        assert await page.evaluate("() => window.markup") is None, route
        assert await page.locator("#app img[src=x], #app script, a[href^=javascript]").count() == 0, route
        if MARKUP in await page.locator("body").inner_text():
            shown.add(route)
    tabs = ("", "?tab=history", "?tab=instances")
    assert shown >= {*(f"#/services/voice_router{tab}" for tab in tabs), "#/drift", "#/instances"}
    refused.unlink()


LOCK = {"version": "1.0.0", "type": "object", "properties": {"settings": {"properties": {
    "pin": {"type": "string", "x-sensitive": True},
    "extra": {"oneOf": [{"type": "object"}, {"type": "string"}]},
}}}}  # fmt: skip


@pytest.mark.soak
async def test_a_broken_text_with_a_secret_of_any_name_is_not_kept(
    make_daemon: Callable[..., Daemon], console: Console
):
    """The schema says which names are those of secrets; without one the text comes back, and can be given up."""
    daemon = make_daemon()
    for folder in (daemon.environments, daemon.directory / "schemas"):
        for path in folder.glob("*.yaml"):
            path.unlink()
    (daemon.environments / "dev.yaml").write_text(json.dumps(environment_file({"lock": {}})))
    (daemon.directory / "schemas" / "lock.yaml").write_text(json.dumps(LOCK))
    page = await console.show(await asyncio.to_thread(daemon.start), "#/services/lock?tab=raw")
    editor = page.get_by_role("textbox", name="Configuration of lock in dev as JSON")
    for typed, lost in (('{"broken": ', False), (f'{{"pin": "{PLANTED["typed in raw"]}", ', True)):
        # In front of the text, which keeps all of its ***.
        await editor.press("Control+Home")
        await page.keyboard.insert_text(typed)
        await expect(page.get_by_text("text that is no configuration yet")).to_be_visible()
        await expect(page.get_by_text("which is not kept when the page is closed")).to_have_count(1 if lost else 0)
        await page.evaluate("() => dispatchEvent(new Event('pagehide'))")
        storage = await page.evaluate("() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")
        assert ("broken" in storage, PLANTED["typed in raw"] in storage) == (not lost, False)
        if not lost:
            await page.reload()
            await expect(editor).to_contain_text('{"broken": ')
            await page.get_by_role("button", name="Back to the last text that was one").click()
            await expect(page.get_by_text("text that is no configuration yet")).to_have_count(0)
            await expect(editor).not_to_contain_text("broken")
    # A field of the form that takes JSON.
    await page.evaluate("() => localStorage.clear()")
    form = await console.show(daemon, "#/services/lock")
    for typed in ('{"broken": ', f'{{"pin": "{PLANTED["typed in raw"]}", '):
        await form.get_by_label("extra", exact=True).fill(typed)
        await expect(form.get_by_role("region", name="Unsent edits")).to_contain_text("is not JSON")
        # What was typed is kept a moment later, in place of what was kept before.
        is_kept = "wanted => JSON.stringify({ ...localStorage }).includes('broken') === wanted"
        await form.wait_for_function(is_kept, arg="broken" in typed)
        assert PLANTED["typed in raw"] not in await form.evaluate("() => JSON.stringify({ ...localStorage })")
