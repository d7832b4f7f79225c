"""``aliciacfg seal`` with a key from a file, which needs no daemon."""

import json
from pathlib import Path

import pytest

from aliciacfg.sealing.boxes import PrivateKey
from command_runs import run

SECRET = "planted-by-hand-5e1f"


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrivateKey:
    """A key whose public part is in ``public.json`` of the working directory."""
    made = PrivateKey.generate()
    monkeypatch.chdir(tmp_path)
    Path("public.json").write_text(json.dumps({"key_id": made.public.key_id, "public_key": str(made.public)}))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return made


@pytest.mark.parametrize(
    ("stdin", "options", "value"),
    [
        ("planted", [], "planted"), ("planted\n", [], "planted"), ("planted\r\n", [], "planted"),
        ("a\n\n", [], "a\n"), ("ä€😀\n", [], "ä€😀"), ("planted\n", ["--keep-newline"], "planted\n"),
    ],
)  # fmt: skip
def test_what_is_sealed_is_standard_input_without_its_last_newline(
    key: PrivateKey, stdin: str, options: list[str], value: str
):
    """The output of echo and of printf means the same; --keep-newline keeps the newline. No daemon is asked."""
    done = run("seal", "--service", "x", "--key-file", "public.json", *options, stdin=stdin)
    assert key.open(done.stdout.strip(), service="x", environment="any", pointer="/any") == value
    assert (done.stderr, Path("config").exists()) == ("", False)


def test_the_key_itself_is_taken_as_it_is():
    """One with two slashes beside each other too, which a path would not have."""
    key = next(key for _ in range(100_000) if "//" in str((key := PrivateKey.generate()).public))
    text = json.dumps({"key_id": key.public.key_id, "public_key": str(key.public)})
    done = run("seal", "--service", "x", "--key-file", text, stdin="planted")
    assert key.open(done.stdout.strip(), service="x", environment="any", pointer="/any") == "planted"


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        ([], "x", 2, "--service"),
        (["--service", "not a name"], "x", 2, "cannot name a service"),
        (["--service", "a", "-e", "base"], "x", 2, "cannot name an environment"),
        (["--service", "a", "--pointer", "x"], "x", 2, "does not begin with"),
        (["--service", "a", "--key-file", "public.json", "--accept-new-key", "0"], "x", 2, "--accept-new-key"),
        (["--service", "a", "--key-file", "public.json", SECRET], "x", 2, "unexpected extra argument"),
        (["--service", "a", "--key-file", "public.json"], "", 4, "standard input is empty"),
        (["--service", "a", "--key-file", "public.json"], b"\xff", 4, "not UTF-8"),
        (["--service", "a", "--key-file", "none.json"], "x", 1, "none.json"),
        (["--service", "a", "--key-file", '{"key_id": "0", "public_key": "AAAA"}'], "x", 4, "cannot be used"),
        (["--service", "a", "--key-file", "{}"], "x", 4, "as a daemon publishes it"),
    ],
)
@pytest.mark.usefixtures("key")
def test_what_cannot_be_sealed_is_refused(arguments: list[str], stdin: str | bytes, code: int, words: str):
    """The message says what to do, and standard output stays empty."""
    done = run("seal", *arguments, stdin=stdin)
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in done.stderr
