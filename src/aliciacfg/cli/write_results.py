"""What people read of a write: what it changed, or would change, and what a refusal says."""

import click
import msgspec
from msgspec import UNSET, UnsetType

from aliciacfg.api.answers.changes import ValueChange
from aliciacfg.api.answers.configurations import WarningDetail
from aliciacfg.api.fields import Difference
from aliciacfg.cli import formatting, output
from aliciacfg.cli.command_words import in_command_words
from aliciacfg.cli.output import Line
from aliciacfg.errors import Problem

_NARROW = 32
_RESTART = "restart required: "
# Of a configuration that is new every place is listed, and there may be thousands.
_MAX_PLACES = 20


class WriteResult(msgspec.Struct):
    """The result of one write: the members that commands print, of a success or a refusal."""

    message: str
    service: str = ""
    status: str = "success"
    code: str | None = None
    problems: list[Problem] = []
    unchanged: bool = False
    changed: list[str] = []
    restart_required: list[str] = []
    warnings: list[str] = []
    warning_details: list[WarningDetail] = []
    waits_for_broker: bool = False
    difference: Difference | UnsetType = UNSET
    changes: dict[str, ValueChange] = {}
    changes_left_out: int = 0
    remains: bool = False

    def __post_init__(self) -> None:
        self.message = in_command_words(self.message)


def success_lines(result: WriteResult) -> list[Line]:
    """Return the message of a write and what it changed."""
    return [result.message, *effect_lines(result)]


def effect_lines(result: WriteResult, indent: str = "") -> list[Line]:
    """Return what a write changed, or would change, with a line for each place."""
    lines: list[Line] = []
    if not result.unchanged:
        lines = _change_lines(result)
    if result.restart_required:
        restarts = formatting.fitting(result.restart_required, output.width() - len(_RESTART) - len(indent) - 2)
        lines.append([(_RESTART, "yellow"), restarts])
    hidden = {detail.message: detail for detail in result.warning_details if detail.kind == "shadowed"}
    for warning in result.warnings:
        detail = hidden.get(warning)
        lines.append([("warning: ", "yellow"), warning] if detail is None else _hidden_line(detail, result))
    if result.remains:
        # "delete" takes run-time changes away; people expect that it removes the service.
        note = f"the files define {result.service}, so it stays configured; to remove it, delete its lines there"
        lines.append([("note: ", "cyan"), note])
    lines += broker_lines(waits=result.waits_for_broker)
    return [[f"{indent}  ", *([line] if isinstance(line, str) else line)] for line in lines]


def broker_lines(*, waits: bool) -> list[Line]:
    """Return a note if a change is published only when the broker is back."""
    return [[("note: ", "cyan"), "the broker is away; the change will be published when it is back"]] if waits else []


def _hidden_line(detail: WarningDetail, result: WriteResult) -> Line:
    """Return the note that a write hides a value of a file, which is what most writes are meant to do."""
    place = detail.pointer
    if isinstance(place, UnsetType):
        return [("note: ", "cyan"), detail.message]
    change = result.changes.get(place)
    value = None if change is None else formatting.side(change.old)
    says = "has this value, too" if value is None else f"says {formatting.cut(value, _NARROW)}"
    context = click.get_current_context(silent=True)
    environment = None if context is None else context.params.get("environment")
    undo = f"aliciacfg unset {result.service} {place}{f' -e {environment}' if environment else ''}"
    return [
        ("note: ", "cyan"),
        f"{detail.file}:{detail.line} {says}; this change at run time hides it; `{undo}` takes it back",
    ]


def _change_lines(result: WriteResult) -> list[Line]:
    """Return a line for each place that changed: the old and the new value."""
    lines: list[Line] = []
    for pointer, change in result.changes.items():
        lines += formatting.change_lines(
            pointer, (formatting.side(change.old), formatting.side(change.new)), width=output.width() - 2
        )
    further = [pointer for pointer in result.changed if pointer not in result.changes]
    if further and not result.changes and not isinstance(result.difference, UnsetType):
        return formatting.difference_lines(result.difference)
    lines += [[("~", formatting.CHANGED), f" {pointer or '(document)'}"] for pointer in further[:_MAX_PLACES]]
    if len(further) > _MAX_PLACES:
        lines.append([(f"and {formatting.counted(len(further) - _MAX_PLACES, 'place')} more", "dim")])
    return lines
