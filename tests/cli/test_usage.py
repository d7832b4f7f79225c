"""What commands refuse before they send anything."""

import errno
import os
from pathlib import Path

import pytest

from command_runs import NOWHERE, run


@pytest.mark.parametrize(
    "arguments",
    [
        ("history", "voice_router", "--limit", "0"),
        ("history", "voice_router", "--limit", "1001"),
        ("history",),
        ("rollback", "voice_router"),
        ("rollback", "voice_router", "0"),
        ("rollback", "voice_router", "newest"),
        ("activate",),
        ("batch",),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]):
    """The message shows the usage."""
    done = run(*arguments)
    assert (done.exit_code, "usage: " in done.stderr) == (2, True)


@pytest.mark.parametrize("url", ["127.0.0.1:8026", "config.home", "mqtt://127.0.0.1"])
def test_what_is_no_url_is_told_as_such(url: str):
    """Not as a daemon that does not answer."""
    for done in (run("--http", url, "get", "voice_router"), run("get", "voice_router", "--http", url)):
        assert (done.exit_code, "expected a URL, such as http://" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("completion",), "error: missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish\n"),
        (("rollback", "bell", "one"), "error: invalid value for 'REVISION': 'one' is not a whole number\n"),
        (("diff", "bell", "1", "2"), "error: revisions are named with --rev: --rev 1 --rev 2\n"),
        (("help", "instnces"), "hint: did you mean instances?\n"),
    ],
)
def test_wrong_usage_is_told_in_plain_words(arguments: tuple[str, ...], message: str):
    """Without the names that click has for things, on one line."""
    done = run(*arguments)
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr


def test_help_is_a_command_too():
    """With and without the name of another, also of one in a group."""
    assert run("help").stdout == run("--help").stdout
    assert run("help", "get").stdout == run("get", "--help").stdout
    assert "secret set" in run("help", "secret", "set").stdout


def test_whom_to_ask_can_stand_after_the_command():
    """The daemon there is asked, and help of the command does not repeat the options."""
    done = run("get", "voice_router", "--http", "http://127.0.0.1:1", "--timeout", "2")
    assert (done.exit_code, "http://127.0.0.1:1/config/voice_router" in done.stderr) == (7, True)
    assert "--timeout" not in run("get", "--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("history", "not a name"),
        ("rollback", "not a name", "1"),
        ("explain", "a/b"),
        ("diff", "#", "dev", "prod"),
        ("instances", "get"),
        ("activate", "../dev"),
    ],
)
@pytest.mark.parametrize("transport", ["--broker", "--http"])
def test_impossible_names_exit_with_4(transport: str, arguments: tuple[str, ...]):
    """They would change the topic or the path, so they are not sent."""
    done = run(*NOWHERE[transport], *arguments)
    assert (done.exit_code, done.stdout, done.stderr.startswith("error: ")) == (4, "", True)


@pytest.mark.parametrize(
    ("arguments", "code", "lines"),
    [
        (
            ("patch", "bell", "settings.volume_percent=7"),
            1,
            [
                "error: 'settings.volume_percent=7' is neither JSON nor a file",
                """hint: did you mean '{"settings":{"volume_percent":7}}'?""",
            ],
        ),
        (
            ("set", "bell", "/limits/x=five"),
            1,
            [
                "error: '/limits/x=five' is neither JSON nor a file",
                """hint: did you mean '{"limits":{"x":"five"}}'?""",
            ],
        ),
        (
            ("validate", "bell", "settings: {a: 1}"),
            1,
            [
                "error: 'settings: {a: 1}' is neither JSON nor a file",
                """hint: write a JSON or YAML file, or the JSON itself: '{"settings": {"volume": 7}}'""",
            ],
        ),
        (
            ("patch", "bell", '{"settings": {"volume_percent": 7}'),
            4,
            [
                "error: the argument is not JSON: expecting ',' delimiter (column 35, where it ends)",
                """hint: write a JSON or YAML file, or the JSON itself: '{"settings": {"volume": 7}}'""",
            ],
        ),
        (
            ("batch", "[{]"),
            4,
            [
                "error: the argument is not JSON: expecting property name enclosed in double quotes (column 3)",
                """hint: write a JSON or YAML file, or the JSON itself: '{"settings": {"volume": 7}}'""",
            ],
        ),
        (("patch", "bell", "no-such.yaml"), 1, ["error: there is no file no-such.yaml"]),
    ],
)
def test_what_is_no_document_is_told_with_one(arguments: tuple[str, ...], code: int, lines: list[str]):
    """Every command that takes a document as an argument says how one looks, or what this one was meant as."""
    done = run(*arguments)
    assert (done.exit_code, done.stderr.splitlines()) == (code, lines)


def test_a_broken_file_is_told_by_its_line(tmp_path: Path):
    """Not by a byte, and without the words for a request, of every command that reads one."""
    broken = tmp_path / "broken.json"
    broken.write_text('{"a": 1\n "b": 2}')
    told = f"{broken}:2: is not JSON: expecting ',' delimiter (column 2)\n"
    for arguments in (
        ("patch", "bell", str(broken)),
        ("batch", str(broken)),
        ("env", "bell", "--file", str(broken)),
        ("seal", "--service", "bell", "--key-file", str(broken)),
    ):
        done = run(*arguments)
        assert (done.exit_code, done.stderr.endswith(told)) == (4, True), done.stderr


@pytest.mark.parametrize("command", ["history", "get", "list", "audit"])
def test_the_pager_can_be_switched_off_after_the_command(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As before it; help of the command does not repeat the option."""
    # Without a daemon, audit opens the home of the working directory, and makes one.
    monkeypatch.chdir(tmp_path)
    arguments = (command, "bell") if command in {"history", "get"} else (command,)
    done = run(*NOWHERE["--broker"], *arguments, "--no-pager")
    assert (done.exit_code, "no option" in done.stderr) == (7, False) or command == "audit", done.stderr
    assert "--no-pager" not in run(command, "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("get", "bell", "-o", "jsn"), "json"),
        (("token", "create", "ann", "--role", "redaer"), "reader"),
        (("completion", "bsh"), "bash"),
    ],
)
def test_a_mistyped_word_of_a_few_is_answered_with_the_one_that_was_meant(arguments: tuple[str, ...], meant: str):
    """Wherever an option or an argument takes one of some words."""
    done = run(*arguments)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, f"hint: did you mean {meant}?")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--broker", "::::", "get", "bell"), "--broker '::::': expected HOST or HOST:PORT"),
        (("get", "bell", "--broker", "127.0.0.1:abc"), "--broker '127.0.0.1:abc': expected HOST or HOST:PORT"),
        (("--timeout", "0", "get", "bell"), "0.0 is not more than 0"),
        (("watch", "--count", "0"), "0 is less than 1"),
        (("history", "bell", "--limit", "1001"), "1001 is not between 1 and 1000"),
        (("--ca", "nowhere.pem", "get", "bell"), "--ca: nowhere.pem cannot be read"),
        # An empty one is none.
        (("--ca", "", "--broker", "x:0", "get", "bell"), "--broker 'x:0': expected HOST or HOST:PORT"),
        (("token", "create", "a b"), "cannot name a caller"),
    ],
)
def test_what_no_value_can_be_is_refused_before_anything_is_asked(arguments: tuple[str, ...], message: str):
    """In words, and not by a broker or a setting that was not given."""
    done = run(*arguments)
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr


def test_a_data_directory_that_is_named_has_to_be_there(tmp_path: Path):
    """A mistyped one would become a home of its own, with keys and a token that opens nothing."""
    done = run("token", "create", "mario", "--role", "admin", "--data-dir", str(tmp_path / "dta"))
    assert (done.exit_code, done.stderr.splitlines()[0]) == (3, f"error: there is no data directory {tmp_path / 'dta'}")
    assert f"make it first: mkdir -p -m 700 {tmp_path / 'dta'}" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_first_key_is_made_in_a_data_directory_as_the_hint_makes_it(tmp_path: Path):
    """So that keys can be there before the daemon is."""
    data = tmp_path / "data"
    assert "mkdir -p -m 700" in run("keys", "new", "--data-dir", str(data)).stderr
    data.mkdir(mode=0o700)
    assert run("keys", "new", "--data-dir", str(data)).exit_code == 0
    assert (data / "keys.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--ca", "private/file", "get", "bell"), 2),
        (("token", "create", "mario", "--data-dir", "private/file"), 1),
    ],
)
def test_what_is_in_a_directory_of_another_user_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int
):
    """As in /var/lib/private, where systemd keeps the data of users that it makes."""
    stat = Path.stat

    def private(path: Path, **options: bool) -> os.stat_result:
        if "private" in path.parent.parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "stat", private)
    done = run(*arguments)
    assert (done.exit_code, "cannot be read: Permission denied; " in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(("updates", "message"), [("[]", "found an empty list"), ("[{}]", "/0: service is missing")])
def test_a_batch_without_updates_or_services_is_refused_here(updates: str, message: str):
    """In words of a batch."""
    done = run(*NOWHERE["--http"], "batch", updates)
    assert (done.exit_code, message in done.stderr) == (4, True), done.stderr


@pytest.mark.parametrize("command", ["set", "patch", "validate", "batch"])
def test_nothing_is_no_document(command: str):
    """A program that fails before a pipe would otherwise take every member away."""
    done = run(*NOWHERE["--http"], command, *(() if command == "batch" else ("bell",)), "-", stdin=" \n")
    assert (done.exit_code, "standard input is empty" in done.stderr) == (4, True), done.stderr
