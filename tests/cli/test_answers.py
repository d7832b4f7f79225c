"""What a command does with an answer: print it, or end with the exit code of a refusal."""

import json
from typing import Any

import msgspec
import pytest

from aliciacfg.cli import answers, output, output_format
from aliciacfg.cli.exits import EXIT_CODES, exit_on_error
from aliciacfg.errors import (
    BrokerUnavailable,
    DataDirectoryInUse,
    NotFound,
    SettingsError,
    SourceError,
    SourceProblem,
    ValidationFailed,
)


class Count(msgspec.Struct):
    """An answer with one number."""

    number: int


def test_programs_get_json_and_people_what_is_rendered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The answer is printed whole, unknown members included; rendering is left out for programs."""
    answer: dict[str, Any] = {"status": "success", "number": 5, "new": True}

    def render(count: Count) -> list[str]:
        assert output.for_people()
        return [f"{count.number} things"]

    assert answers.print_answer(answer, Count, render) == Count(5)
    assert json.loads(capsys.readouterr().out) == answer
    monkeypatch.setattr(output_format, "current", lambda: "table")
    answers.print_answer(answer, Count, render)
    assert capsys.readouterr().out == "5 things\n"


@pytest.mark.parametrize("code", sorted(EXIT_CODES))
def test_a_refusal_ends_with_its_exit_code(code: str, capsys: pytest.CaptureFixture[str]):
    """Standard error has the message and a line for each problem; standard output has nothing."""
    problems = [{"pointer": "/limits/x", "message": "found 'y'"}, {"pointer": "", "message": "too deep"}]
    refusal: dict[str, Any] = {"status": "error", "code": code, "message": "No.", "problems": problems}
    with pytest.raises(SystemExit) as ended:
        answers.exit_if_refused(refusal)
    assert ended.value.code == EXIT_CODES[code]
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["error: No.", "  /limits/x: found 'y'", "  (document): too deep"]
    assert printed.out == ""


@pytest.mark.parametrize("answer", [{"number": "five"}, {}, {"status": "success"}])
def test_an_answer_of_another_form_is_a_failure(answer: dict[str, Any], capsys: pytest.CaptureFixture[str]):
    """The message asks for the daemon's version, because another one may answer like this."""
    with pytest.raises(SystemExit) as ended:
        answers.parse(answer, Count)
    assert (ended.value.code, "does the daemon have this version" in capsys.readouterr().err) == (1, True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError(["no"]), 2),
        (BrokerUnavailable("no"), 7),
        (SourceError([SourceProblem("dev.yaml", 3, "no")]), 4),
        (NotFound("no"), 3),
        (ValidationFailed("no"), 4),
        (DataDirectoryInUse("no"), 1),
    ],
)
def test_an_error_ends_with_its_exit_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]):
    """With its message and without a traceback."""
    with pytest.raises(SystemExit) as ended, exit_on_error():
        raise error
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith("error: ")


def test_what_was_probably_meant_is_a_hint(capsys: pytest.CaptureFixture[str]):
    """The daemon asks behind its message; it is not looked for again."""
    message = "There is no configuration of dorbell in dev. Did you mean door_bell?"
    refused = {"status": "error", "code": "not_found", "message": message, "problems": []}
    with pytest.raises(SystemExit):
        answers.exit_if_refused(refused, hint=lambda _: "something else")
    said = ["error: There is no configuration of dorbell in dev.", "hint: did you mean door_bell?"]
    assert capsys.readouterr().err.splitlines() == said
