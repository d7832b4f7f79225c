"""The warning that edits of files are not in force."""

from collections.abc import Iterator

from aliciacfg.api.answers.refused_edits import RefusedEdit
from aliciacfg.cli import notices
from aliciacfg.cli.answers import parse
from aliciacfg.documents import JsonObject


def warn_of_refused_edits(answer: JsonObject) -> None:
    """Print a warning for each refused edit in an answer."""
    for line in edit_lines(parse(answer.get("refused_edits", []), list[RefusedEdit])):
        notices.print_warning(f"not in force: {line}")


def edit_lines(edits: list[RefusedEdit]) -> Iterator[str]:
    """Yield a line for each refused edit, with file and line."""
    for edit in edits:
        place = edit.file if edit.line is None else f"{edit.file}:{edit.line}"
        yield ": ".join(part for part in (place, edit.message) if part)
