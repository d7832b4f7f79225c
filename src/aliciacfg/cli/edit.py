"""The ``edit`` command: a configuration in an editor, checked, compared and asked about before it is written."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import click
from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.api.answers.configurations import ConfigAnswer
from aliciacfg.api.answers.explain import ExplainAnswer
from aliciacfg.cli import edit_text, formatting, notices, options, output, requests
from aliciacfg.cli.answers import exit_if_refused, parse
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.editor import EditedFile
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, EXIT_USAGE, exit_on_error, fail
from aliciacfg.cli.masking import without_boxes
from aliciacfg.cli.output import Line
from aliciacfg.cli.plain_secrets import warn_of_plain_secrets
from aliciacfg.cli.prompts import choose
from aliciacfg.cli.write_results import WriteResult, success_lines
from aliciacfg.documents import JsonObject
from aliciacfg.errors import Problem, SourceError, SourceProblem

# What a user can correct in the text.
_CORRECTABLE = {"validation_failed", "invalid_request", "too_large"}


@click.command()
@click.argument("service")
@click.option("-y", "--yes", is_flag=True, help="Apply a valid change without asking.")
@options.environment
@options.comment
@options.allow_breaking
@options.force
@click.pass_obj
def edit(target: Target, service: str, environment: str | None, *, yes: bool, **fields: Any) -> None:
    """Change the configuration of SERVICE in your editor.

    The editor is VISUAL, else EDITOR. It shows YAML, with a comment that says where each value comes from. The daemon
    checks what you saved: what is wrong stands at the top when you edit again, and what would change is shown before
    you are asked. A secret is ***; leave it, and it stays. If somebody else changes the configuration meanwhile, your
    changes are put on top of theirs. What you typed is never lost: if it is not applied, its file is named.

    Examples:
        aliciacfg edit voice_router
        aliciacfg edit voice_router -e prod -m "more sessions for the party"
        EDITOR="code --wait" aliciacfg edit voice_router
    """
    if not yes and not sys.stdin.isatty():
        fail(
            "edit asks at a terminal, and standard input is none",
            EXIT_USAGE,
            hint=f"aliciacfg get {service} > file, change the file, aliciacfg set {service} file",
        )
    # Nothing of the daemon of another home is shown for a change that would then be refused.
    target = replace(target, changing=True)
    base = _base(target, service, environment)
    file = EditedFile(f"{service}.{base.environment}.yaml")
    session = _Session(target, service, fields, base, file, yes=yes)
    try:
        session.run()
    finally:
        session.close()


@dataclass(frozen=True, slots=True)
class _Base:
    """The revision that is edited, and its text."""

    config: JsonObject
    revision: int
    environment: str
    text: str


def _base(target: Target, service: str, environment: str | None) -> _Base:
    """Ask for the current revision; end the program if there is none."""
    found = parse(ask(target, "get", service, {"environment": environment}), ConfigAnswer)
    config = without_boxes(cast("JsonObject", found.config))
    return _Base(
        config, found.revision, found.environment, _text(target, service, found.environment, found.revision, config)
    )


def _text(target: Target, service: str, environment: str, revision: int, config: JsonObject) -> str:
    """Return the text of a configuration, with the origins of its values if they are those of this revision."""
    explained = requests.try_ask(target, "explain", service, {"environment": environment}, ExplainAnswer)
    origins = explained.values if explained is not None and explained.revision == revision else {}
    heading = f"{service} in {environment}, revision {revision}"
    return edit_text.render(config, origins, heading=heading)


class _Session:
    """One run of the command."""

    def __init__(
        self, target: Target, service: str, fields: dict[str, Any], base: _Base, file: EditedFile, *, yes: bool
    ) -> None:
        self._target = target
        self._service = service
        self._fields = fields
        self._base = base
        self._file = file
        self._yes = yes
        # The text that the editor was given, and whether the user has typed any of it.
        self._given = base.text
        self._typed = False
        self._done = False

    def run(self) -> None:
        """Let the user edit until a change is applied, or given up; the latter ends the program."""
        text: str | None = self._base.text
        while text is not None:
            self._given = text
            edited = self._file.edit(text)
            self._typed = self._typed or not edit_text.same_content(edited, text)
            if edit_text.is_empty(edited) or edit_text.same_content(edited, self._base.text):
                self._finish(["Nothing was changed."])
                return
            text = self._check(edited)

    def close(self) -> None:
        """Remove the file, or name it if it has what the user typed and is not applied."""
        typed = self._typed or not edit_text.same_content(self._file.read(), self._given)
        if typed and not self._done:
            notices.print_note(f"nothing was changed; what you typed is in {self._file.path}")
        else:
            self._file.drop()

    def _check(self, edited: str) -> str | None:
        """Check a text, and apply it if the user agrees; return the text to edit next, or None at the end."""
        try:
            config = edit_text.parse(edited, file=self._file.path.name)
        except SourceError as error:
            return self._correct(edited, "The text is not YAML", error.problems)
        if not isinstance(config, dict):
            return self._correct(edited, "The text has no members", [])
        answer = self._write(config, dry_run=True)
        trial = parse(answer, WriteResult)
        if trial.code == "conflict":
            return self._rebase(config)
        if trial.code == "incompatible":
            return self._allow_breaking(edited, trial)
        if trial.code in _CORRECTABLE:
            return self._correct(edited, trial.message, trial.problems)
        exit_if_refused(answer)
        warn_of_plain_secrets(self._target, self._service, config, answer)
        if trial.unchanged:
            self._finish([f"{trial.message}."])
            return None
        _show(success_lines(trial))
        match "y" if self._yes else choose("Apply? y: yes, n: no, e: edit again", "n", "y", "n", "e"):
            case "y":
                return self._apply(config)
            case "e":
                return edited
            case _:
                sys.exit(EXIT_FAILED)

    def _apply(self, config: JsonObject) -> str | None:
        answer = self._write(config, dry_run=False)
        result = parse(answer, WriteResult)
        if result.code == "conflict":
            return self._rebase(config)
        exit_if_refused(answer)
        self._done = True
        output.print_result(answer, lambda: [result.message])
        return None

    def _allow_breaking(self, edited: str, trial: WriteResult) -> str | None:
        """Ask whether readers may break; return the text to edit next, or None at the end."""
        notices.print_error(trial.message, [edit_text.problem_line(problem) for problem in trial.problems])
        if not sys.stdin.isatty():
            sys.exit(EXIT_CODES["incompatible"])
        match choose("Allow it? y: yes, n: no, e: edit again", "n", "y", "n", "e"):
            case "y":
                self._fields["allow_breaking"] = True
                return self._check(edited)
            case "e":
                return edited
            case _:
                sys.exit(EXIT_CODES["incompatible"])

    def _correct(self, edited: str, message: str, problems: Sequence[Problem | SourceProblem]) -> str:
        """Show what is wrong, and return the text with it at the top; end the program if the user gives up."""
        notices.print_error(message, [edit_text.problem_line(problem) for problem in problems])
        self._ask_or_end("Edit again?", EXIT_CODES["validation_failed"])
        return edit_text.with_problems(edited, problems, message=message)

    def _rebase(self, config: JsonObject) -> str:
        """Return the text of the revision that came meanwhile, with the user's changes put in."""
        before = self._base
        self._base = after = _base(self._target, self._service, before.environment)
        theirs = set(_changed(before.config, after.config))
        both = [
            Problem(pointer, f"changed meanwhile to {_value(after.config, pointer) or 'nothing'}")
            for pointer in _changed(before.config, config)
            if pointer in theirs
        ]
        message = f"{self._service} was changed meanwhile; it is at revision {after.revision}"
        notices.print_warning(message)
        _show(_change_lines(before.config, after.config))
        self._ask_or_end("Put your changes on top of it, and edit again?", EXIT_CODES["conflict"])
        mine = documents.difference(before.config, config)
        merged = _text(
            self._target, self._service, after.environment, after.revision, documents.merge(after.config, mine)
        )
        return edit_text.with_problems(merged, both, message=message) if both else merged

    def _write(self, config: JsonObject, *, dry_run: bool) -> JsonObject:
        """Ask the daemon to write a configuration; return its answer, a refusal too."""
        fields = {
            **self._fields,
            "config": config,
            "environment": self._base.environment,
            "expected_revision": self._base.revision,
            "dry_run": dry_run,
        }
        with exit_on_error():
            return requests.send(self._target, "set", self._service, options.request_fields(fields))

    def _ask_or_end(self, question: str, code: int) -> None:
        if not sys.stdin.isatty() or choose(question, "y", "y", "n") == "n":
            sys.exit(code)

    def _finish(self, lines: list[Line]) -> None:
        self._done = True
        _show(lines)


def _show(lines: list[Line]) -> None:
    """Print lines for people; programs only get the answer."""
    if output.for_people():
        output.print_blocks(lines)


def _change_lines(before: JsonObject, after: JsonObject) -> list[Line]:
    lines: list[Line] = []
    for pointer in _changed(before, after):
        sides = (_value(before, pointer), _value(after, pointer))
        lines += formatting.change_lines(pointer, sides, width=output.width())
    return lines


def _changed(before: JsonObject, after: JsonObject) -> list[str]:
    # The version is the daemon's.
    return [change.pointer for change in documents.changes(before, after) if change.pointer != "/version"]


def _value(config: JsonObject, pointer: str) -> str | None:
    value = documents.find(config, pointer)
    return None if value is UNSET else json.dumps(value, ensure_ascii=False)
