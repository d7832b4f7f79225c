"""The text of a configuration that people edit: YAML, with a comment that says where each value comes from."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from aliciacfg.api.answers.explain import Explained
from aliciacfg.cli import formatting
from aliciacfg.documents import Json, JsonObject, escape, yaml_reader, yaml_writer
from aliciacfg.errors import Problem, SourceProblem

_INDENT: Final = 2
_WIDEST_BEFORE_COMMENT: Final = 40
# A comment of this program, which it takes out of what it reads; other comments are the writer's.
_MARK: Final = "#! "
_LINE: Final = re.compile(r"\bline ([0-9]+)")


def render(config: JsonObject, origins: Mapping[str, Explained], *, heading: str) -> str:
    """Return the text to edit.

    Args:
        config: The configuration, secrets as ``***``.
        origins: Where each leaf comes from, by JSON Pointer; a leaf that is not there has no comment.
        heading: What is edited.
    """
    lines = [
        f"# {heading}",
        "# Save and close the editor to see what would change, and to be asked. Close it without a change to cancel.",
        "# A comment says where the value comes from; *** is a secret, which stays as it is in its place.",
        *_lines(config, origins, "", 0),
    ]
    return "\n".join(lines) + "\n"


def parse(text: str, *, file: str) -> Json:
    """Return the document of an edited text, ``{}`` if it has none.

    Raises:
        SourceError: It is not YAML; the lines of the problems are those of the text.
    """
    return yaml_reader.load(text, file=file).value


def with_problems(text: str, problems: Sequence[Problem | SourceProblem], *, message: str) -> str:
    """Return a text with what is wrong with it as comments at its top, in place of those from before."""
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(_MARK)]
    # The lines below move by as many as there are more at the top.
    moved = 1 + len(problems) - (len(lines) - len(kept))
    listed = [problem_line(problem, moved=moved) for problem in problems]
    return "".join([*(f"{_MARK}{line}\n" for line in [message, *listed]), *kept])


def problem_line(problem: Problem | SourceProblem, *, moved: int = 0) -> str:
    """Return a problem on one line.

    Args:
        problem: A place of the document, or a line of the text, with what is wrong there.
        moved: By how many lines the text has moved since.
    """
    if isinstance(problem, Problem):
        return " ".join(f"{problem.pointer or '(document)'}: {problem.message}".split())
    place = "the text" if problem.line is None else f"line {problem.line}"
    text = " ".join(f"{place}: {problem.message}".split())
    return _LINE.sub(lambda found: f"line {int(found[1]) + moved}", text)


def same_content(first: str, second: str) -> bool:
    """Return whether two texts differ only in comments of this program."""
    return _unmarked(first) == _unmarked(second)


def is_empty(text: str) -> bool:
    """Return whether a text has nothing but comments."""
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines())


def _unmarked(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(_MARK)]


def _lines(members: JsonObject, origins: Mapping[str, Explained], pointer: str, column: int) -> Iterator[str]:
    for name, value in members.items():
        place = f"{pointer}/{escape(name)}"
        lead = f"{' ' * column}{yaml_writer.scalar_text(name)}:"
        if isinstance(value, dict) and value:
            yield lead
            yield from _lines(value, origins, place, column + _INDENT)
            continue
        line = f"{lead} {yaml_writer.flow_text(value)}"
        origin = _origin(place, origins)
        yield f"{line:<{_WIDEST_BEFORE_COMMENT}}  # {origin}" if origin else line


def _origin(place: str, origins: Mapping[str, Explained]) -> str | None:
    found = origins.get(place)
    # The places of an array may have origins of their own; the first one stands for it.
    found = found or next((said for one, said in origins.items() if one.startswith(f"{place}/")), None)
    return None if found is None else formatting.origin(found.layer, found.line, found.revision)
