"""What commands refuse before they send anything."""

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
    done = run("--http", url, "get", "voice_router")
    assert (done.exit_code, "expected a URL, such as http://" in done.stderr) == (2, True)


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
