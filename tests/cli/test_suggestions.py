"""What a mistyped name may have meant."""

import pytest

from aliciacfg.cli.suggestions import close_to, did_you_mean
from command_runs import run

SERVICES = ["voice_router", "event_scheduler", "stt_service", "tts_service", "metrics_collector"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("voice_rooter", ["voice_router"]),
        ("voice-router", ["voice_router"]),
        ("Voice_Router", ["voice_router"]),
        ("sts_service", ["stt_service", "tts_service"]),
        ("zzz", []),
        ("", []),
    ],
)
def test_only_what_is_close_is_suggested(typed: str, meant: list[str]):
    """The likeliest first; what is far less like than the best is left out."""
    assert close_to(typed, SERVICES) == meant


def test_a_question_names_what_was_meant():
    """Without a suggestion there is no question."""
    assert did_you_mean(["a", "b"]) == "did you mean a or b?"
    assert did_you_mean([]) is None


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("lst", ["error: no such command 'lst'", "hint: did you mean list?"]),
        ("get --enviroment x y", ["error: there is no option --enviroment", "hint: did you mean --environment?"]),
        ("token creat", ["error: no such command 'creat'", "hint: did you mean create?"]),
        ("get", ["error: missing argument 'SERVICE'", "hint: main get --help"]),
    ],
)
def test_wrong_usage_is_an_error_like_all(line: str, lines: list[str]):
    """With the usage, and what was meant or where to read on."""
    done = run(*line.split())
    first, usage, last = done.stderr.splitlines()
    assert (done.exit_code, [first, last], usage.startswith("usage: ")) == (2, lines, True)
