"""Configurations as YAML and as variables of a shell, read by other programs, and parts of them over HTTP."""

import re
import subprocess
from pathlib import Path

import pytest

from builders import environment_file, valid_config
from daemons import Daemon
from inprocess import core
from yaml_readers import TEXTS, readers, same

FILES: dict[str, object] = {
    "schemas/bell.yaml": {
        "properties": {
            "settings": {
                "properties": {
                    "broker": {"type": "string", "x-env": "BELL_BROKER"},
                    "pin": {"type": "string", "x-sensitive": True, "x-env": "BELL_PIN"},
                }
            }
        }
    },
    "environments/base.yaml": environment_file({"bell": {}}),
    "environments/dev.yaml": "",
}


def sourced(directory: Path, text: str, names: list[str]) -> dict[str, str | None]:
    """What the variables are in a real shell that read the text; None where they are not set."""
    (directory / "variables").write_text(text)
    script = ". ./variables\n" + "\n".join(f'printf "%s\\0" "${{{name}-(unset)}}"' for name in names)
    done = subprocess.run(["sh", "-eu", "-c", script], cwd=directory, capture_output=True, env={}, check=True)
    assert not done.stderr
    found = done.stdout.decode().split("\0")[:-1]
    return {name: None if value == "(unset)" else value for name, value in zip(names, found, strict=True)}


async def test_a_shell_reads_the_variables_back(tmp_path: Path):
    """Quotes, newlines, spaces, dollars and backquotes come through as they are; nothing is carried out."""
    texts = {f"t{number}": text for number, text in enumerate(TEXTS) if "\0" not in text}
    config = valid_config(settings={**texts, "number": 5, "flag": True, "ratio": 0.5, "list": ["a b", 1, True]})
    async with core(tmp_path, FILES) as made:
        await made.ask("set", "bell", config=config, allow_breaking=True)
        text = await made.text("bell", format="env")
    names = [*(f"SETTINGS_{name.upper()}" for name in texts)]
    assert sourced(tmp_path, text, names) == dict(zip(names, texts.values(), strict=True))
    more = {
        "SETTINGS_NUMBER": "5",
        "SETTINGS_FLAG": "true",
        "SETTINGS_RATIO": "0.5",
        "SETTINGS_LIST": "a b,1,true",
        "MQTT_CONFIG_PORT": "1883",
        "SERVICE_NAME": "bell",
    }
    assert sourced(tmp_path, text, list(more)) == more


async def test_variables_have_the_names_that_programs_read(tmp_path: Path):
    """``x-env`` where the schema has it, else the pointer in capitals; a secret is a comment without its value."""
    settings = {"broker": "b", "pin": "1234", "a.b-c": "x", "tokens": ["t"], "stars": "a ***b*** c", "empty": {}}
    async with core(tmp_path, FILES) as made:
        await made.ask("patch", "bell", patch={"settings": settings, "features": {"é": True}})
        text = await made.text("bell", format="env")
        part = await made.text("bell", format="env", pointer="/settings/broker")
    names = ["BELL_BROKER", "SETTINGS_BROKER", "SETTINGS_A_B_C", "SETTINGS_STARS", "FEATURES__"]
    assert sourced(tmp_path, text, names) == {
        "BELL_BROKER": "b",
        "SETTINGS_BROKER": None,
        "SETTINGS_A_B_C": "x",
        "SETTINGS_STARS": "a ***b*** c",
        "FEATURES__": "true",
    }
    for name in ("BELL_PIN", "MQTT_CONFIG_PASSWORD", "SETTINGS_TOKENS"):
        assert f"# {name} is a secret\n" in text
    assert "1234" not in text
    assert part == "BELL_BROKER=b\n"


NAMES_THAT_TAKE_OVER = [
    "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "PATH", "BASH_ENV", "ENV", "IFS", "PS4",
    "PROMPT_COMMAND", "SHELLOPTS", "PYTHONPATH", "PYTHONSTARTUP", "PERL5OPT", "RUBYOPT", "NODE_OPTIONS", "CLASSPATH",
    "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "GIT_SSH_COMMAND", "GCONV_PATH", "GLIBC_TUNABLES", "HOME", "EDITOR",
]  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES_THAT_TAKE_OVER, "HTTP_PROXY", "SSL_CERT_FILE"])
async def test_no_value_takes_over_the_process_that_reads_it(tmp_path: Path, name: str):
    """A writer who names keys like variables of the loader, a shell or an interpreter sets none of them."""
    keys = {name: "x", name.lower(): "y", name.replace("_", "-"): "z"}
    async with core(tmp_path, FILES) as made:
        for key in keys:
            await made.ask("patch", "bell", patch={key: "x"})
            text = await made.text("bell", format="env")
            assert not [line for line in text.splitlines() if line.startswith(f"{name}=")], text
            assert f"# {name} " in text
            await made.ask("unset", "bell", pointer=f"/{key}")


async def test_parts_of_a_configuration_take_over_nothing_either(tmp_path: Path):
    """Nested keys make the same names."""
    async with core(tmp_path, FILES) as made:
        await made.ask(
            "patch", "bell", patch={"ld": {"preload": "/evil.so", "library/path": "/evil"}, "git": {"ssh": "x"}}
        )
        for fields in ({}, {"pointer": "/ld"}, {"pointer": "/ld/preload"}):
            text = await made.text("bell", format="env", **fields)
            assert "/evil" not in text
            assert "# LD_PRELOAD " in text


async def test_a_value_stays_on_its_line(tmp_path: Path):
    """Programs that read lines and know no quotes find no variable that a value made up."""
    texts = {f"t{number}": f"a{end}LD_PRELOAD=/evil{end}" for number, end in enumerate("\n\r\v\f\x85\u2028\x1b")}
    async with core(tmp_path, FILES) as made:
        await made.ask("patch", "bell", patch={"settings": texts})
        text = await made.text("bell", format="env")
    assert not [line for line in text.splitlines() if not re.match(r"(#|[A-Z0-9_]+=)", line) or line.startswith("LD_")]
    assert text.replace("\n", "").isprintable()
    names = [f"SETTINGS_{name.upper()}" for name in texts]
    assert sourced(tmp_path, text, names) == dict(zip(names, texts.values(), strict=True))


async def test_two_values_of_one_name_are_told_not_guessed(tmp_path: Path):
    """A name that two values would share is used for neither; a name from the schema is kept."""
    settings = {"a_b": 1, "a": {"b": 2}, "a/b": 3, "broker": "b", "nul": "x\0y", "line\nbreak=1; id": 4}
    async with core(tmp_path, FILES) as made:
        await made.ask("patch", "bell", patch={"settings": settings, "bell": {"broker": "c"}})
        text = await made.text("bell", format="env")
    assert text.count("# SETTINGS_A_B could be several values; name them with x-env\n") == 1
    assert text.count("# BELL_BROKER could be several values; name them with x-env\n") == 1
    assert "# SETTINGS_NUL holds a NUL, which no variable can\n" in text
    found = sourced(tmp_path, text, ["SETTINGS_A_B", "BELL_BROKER", "SETTINGS_LINE_BREAK_1__ID"])
    assert found == {"SETTINGS_A_B": None, "BELL_BROKER": "b", "SETTINGS_LINE_BREAK_1__ID": "4"}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("pointer=settings", 400),
        ("pointer=/a~2b", 400),
        ("pointer=/nowhere", 404),
        ("pointer=/settings/max_sessions/deeper", 404),
        ("format=xml", 400),
        ("format=", 400),
        ("format=yaml&pointer=/nowhere", 404),
    ],
)
def test_what_is_not_there_is_told(shared: Daemon, query: str, status: int):
    """A malformed pointer, a place that there is not, a form that is not known; as the error object, not as text."""
    answer = shared.http("GET", f"/config/voice_router?{query}")
    assert answer.status == status
    assert answer.json["status"] == "error"


@pytest.mark.parametrize(
    ("form", "media_type"), [("yaml", "application/yaml"), ("env", "text/plain"), ("json", "application/json")]
)
def test_every_form_has_the_etag_of_the_configuration(shared: Daemon, form: str, media_type: str):
    """With it the form, or a part of it, is not sent again; a write makes it stale."""
    name = f"form_bell_{form}"
    assert shared.http("PUT", f"/config/{name}", valid_config(settings={"volume": 1})).status == 201
    path = f"/config/{name}?format={form}"
    first = shared.http("GET", path)
    assert first.status == 200
    assert first.headers["Content-Type"].split(";")[0] == media_type
    etag = first.headers["ETag"]
    assert etag == shared.http("GET", f"/config/{name}").headers["ETag"]
    for query in ("", "&pointer=/settings"):
        again = shared.http("GET", path + query, headers={"If-None-Match": etag})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    written = shared.http("PATCH", f"/config/{name}", {"settings": {"volume": 2}})
    assert written.status == 200
    after = shared.http("GET", path, headers={"If-None-Match": etag})
    assert (after.status, after.headers["ETag"]) == (200, written.headers["ETag"])


def test_a_form_of_an_old_revision_is_that_of_the_old_revision(shared: Daemon):
    """Read back it is what ``get`` with that revision has."""
    path = "/config/form_bell"
    assert shared.http("PUT", path, valid_config(settings={"volume": 1})).status == 201
    assert shared.http("PATCH", path, {"settings": {"volume": 2}}).status == 200
    old = readers()["1.2"].load(shared.http("GET", f"{path}?format=yaml&revision=1").body.decode())
    assert same(old, shared.config("form_bell", "?revision=1")["config"])
    assert old["settings"] == {"volume": 1}
