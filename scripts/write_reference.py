"""Write the tables of the documentation that come from the code: between ``<!-- generated: NAME -->`` and its end.

``tests/project/test_reference.py`` holds them equal. Run it after a change of settings, operations, errors, metrics,
exit codes, commands or of ``scale_model.py``: ``python scripts/write_reference.py``.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click

import scale_model
from aliciacfg.cli import EXIT_CODES
from aliciacfg.cli import main as root
from aliciacfg.cli.command_table import GROUPS
from aliciacfg.errors import ErrorCode
from aliciacfg.http.refusals import STATUS
from aliciacfg.monitoring.exposition import FAMILIES
from aliciacfg.operations.operation import Operation
from aliciacfg.operations.table import OPERATIONS
from aliciacfg.settings import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
REGION = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)
HELP_COLUMNS = 90

# Further statuses of a code, and when it is answered.
ERRORS: dict[ErrorCode, tuple[str, str]] = {
    "invalid_request": (", 405, 408, 415", "not JSON, wrong fields, an invalid name, a body that does not arrive"),
    "unauthorized": ("", "under access rules: the caller is not authenticated"),
    "forbidden": ("", "the rules do not allow it; an answer topic, Host or Origin that is not allowed"),
    "not_found": ("", "no such service, environment, revision or route; says which service was probably meant"),
    "conflict": (
        ", 412", "the revision is not the expected one; the answer has the current `revision` and `checksum`",
    ),
    "incompatible": (
        "", "keys would disappear or change their type, see [Documents](documents.md#version); `problems` names each",
    ),
    "too_large": ("", "over a limit; over MQTT also an answer that is larger than a packet may be"),
    "validation_failed": ("", "invalid; `problems` lists everything"),
    "busy": ("", "too many writes or too much work of this caller wait, or no event stream is left; try again later"),
    "unavailable": ("", "the store or the files cannot be used"),
    "internal": ("", "an unexpected error; the daemon's log has the details"),
}  # fmt: skip
NEEDS = {
    "nothing": "everybody",
    "read": "readers of the service",
    "read_any": "readers; each sees its services",
    "write": "writers of the service",
    "write_any": "writers of each service in it",
    "own": "the service itself, administrators",
    "admin": "administrators",
}
NEEDS_FOR_ALL = {**NEEDS, "read": "readers of all services"}


def settings() -> Iterator[str]:
    """Yield the table of the daemon's settings."""
    yield "| variable | flag | default | |"
    yield "|---|---|---|---|"
    for row in SETTINGS:
        yield f"| `{row.name}` | `{row.flag}` | {f'`{row.default}`' if row.default else ''} | {row.help} |"


def metrics() -> Iterator[str]:
    """Yield the table of metrics."""
    yield "| metric | type | labels | |"
    yield "|---|---|---|---|"
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"| `{family.name}` | {family.kind} | {labels} | {family.help} |"


def operations() -> Iterator[str]:
    """Yield the table of operations."""
    yield "| operation | MQTT request topic | HTTP | own fields | who may |"
    yield "|---|---|---|---|---|"
    for row in OPERATIONS:
        path = row.path.replace("{target}", f"{{{row.target}}}")
        yield (
            f"| **{row.name}**: {row.summary[:1].lower()}{row.summary[1:]} | `{_topic(row)}` | `{row.method} {path}` "
            f"| {_own_fields(row)} | {(NEEDS if row.target else NEEDS_FOR_ALL)[row.needs]} |"
        )


def _topic(row: Operation) -> str:
    if row.name == "health":
        return "alicia/system/health/check"
    return f"alicia/config/{row.name}" + (f"/<{row.target}>" if row.target else "")


def _own_fields(row: Operation) -> str:
    shared = {
        "request_id",
        "environment",
        "expected_revision",
        "dry_run",
        "comment",
        "allow_breaking",
        "refuse_near_misses",
    }
    return ", ".join(f"`{name}`" for name in row.request.__struct_encode_fields__ if name not in shared)


def errors() -> Iterator[str]:
    """Yield the table of error codes."""
    yield "| code | HTTP | exit code | when |"
    yield "|---|---|---|---|"
    for code, status in STATUS.items():
        further, when = ERRORS[code]
        yield f"| `{code}` | {status}{further} | {EXIT_CODES[code]} | {when} |"


def exit_codes() -> Iterator[str]:
    """Yield the table of exit codes, from the last lines of the root command's help."""
    listed = root.epilog.removeprefix("Exit codes:").strip().rstrip(".").replace("\n", " ")
    yield "| exit code | meaning |"
    yield "|---|---|"
    for code, meaning in re.findall(r"(\d+) ([^,]+(?:, (?!\d)[^,]+)*)", listed):
        yield f"| {code} | {meaning} |"


def commands() -> Iterator[str]:
    """Yield a section for each command, by the groups of the root command's help."""
    context = click.Context(
        root,
        info_name="aliciacfg",
        terminal_width=HELP_COLUMNS,
        max_content_width=HELP_COLUMNS,
        **root.context_settings,
    )
    yield "```output"
    yield context.get_help()
    yield "```"
    for heading, rows in GROUPS.items():
        yield f"\n## {heading}"
        for row in rows:
            command = root.get_command(context, row.name)
            assert command is not None, row.name
            yield from _command(command, row.name, context)


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield f"\n### {context.command_path.removeprefix('aliciacfg ')}\n"
    yield "```output"
    yield re.sub(r" +$", "", context.get_help(), flags=re.MULTILINE)
    yield "```"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None, below
            yield from _command(found, below, context)


GENERATORS: dict[str, Callable[[], Iterator[str]]] = {
    "settings": settings,
    "metrics": metrics,
    "operations": operations,
    "errors": errors,
    "exit codes": exit_codes,
    "commands": commands,
    "scale model": scale_model.lines,
}


def pages() -> Iterator[Path]:
    """Yield the pages that may have generated regions."""
    yield from sorted((ROOT / "docs").rglob("*.md"))


def written(text: str) -> str:
    """Return a page with its regions written anew."""
    return REGION.sub(lambda found: f"{found[1]}{chr(10).join(GENERATORS[found[2]]())}\n{found[3]}", text)


def main() -> None:
    """Write every page whose regions changed."""
    for page in pages():
        text = page.read_text()
        if (now := written(text)) != text:
            page.write_text(now)
            print(f"{page.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
