"""The ``file`` commands: one value of an environment file, without a daemon."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import UnsetType

from aliciacfg.cli import home, notices, options, output
from aliciacfg.cli.exits import EXIT_FAILED, EXIT_USAGE, fail
from aliciacfg.cli.inputs import json_or_text, read_text, rewrite_text
from aliciacfg.cli.shadowed import warn_if_shadowed
from aliciacfg.documents import find, yaml_reader
from aliciacfg.errors import AliciacfgError
from aliciacfg.model.redaction import REDACTED

if TYPE_CHECKING:
    from aliciacfg.documents import Json


_force = click.option(
    "--force",
    is_flag=True,
    help="Write it even if a daemon would refuse it, a name looks misspelt, or it is a secret in the open.",
)


@click.group()
def file() -> None:
    """Change one value of an environment file.

    Comments, order and all other values stay.
    """


@file.command("set")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("pointer")
@click.argument("value")
@click.option("--string", is_flag=True, help="Take VALUE as a string, whatever it looks like.")
@_force
def file_set(path: Path, pointer: str, value: str, *, string: bool, force: bool) -> None:
    """Set the value at POINTER in the file PATH to VALUE.

    POINTER is, for example, /services/voice_router/limits/x. VALUE is JSON; anything else is taken as a string, unless
    it begins like a JSON object, array or string. What a daemon would refuse is not written (exit code 4), nor is a
    name that looks like a misspelt one, nor a secret in the open: that is for `aliciacfg secret set`.

    Examples:
        aliciacfg file set environments/dev.yaml /services/voice_router/limits/x 5
        aliciacfg file set environments/dev.yaml /services/voice_router/settings/greeting "good evening"
    """
    from aliciacfg.documents import walk_strings, yaml_editor

    parsed: Json = value if string else json_or_text(value, otherwise="add --string")
    if any(text.strip() == REDACTED for _, text in walk_strings(parsed)):
        fail(f"{REDACTED} stands for a secret in answers and is none itself; set the secret", EXIT_USAGE)
    _edit(path, pointer, lambda text: yaml_editor.replace(text, pointer, parsed, file=str(path)), force=force)


@file.command("unset")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("pointer")
@_force
def file_unset(path: Path, pointer: str, *, force: bool) -> None:
    """Remove the value at POINTER from the file PATH.

    Examples:
        aliciacfg file unset environments/dev.yaml /services/voice_router/limits/x
    """
    from aliciacfg.documents import yaml_editor

    _edit(path, pointer, lambda text: yaml_editor.remove(text, pointer, file=str(path)), force=force)


def _edit(path: Path, pointer: str, edit: Callable[[str], str], *, force: bool) -> None:
    """Edit a file, and print the value before and after; a secret is not shown."""
    from aliciacfg.schemas.schema_tree import has_secret_name
    from aliciacfg.sources.layers import is_secrets_file

    try:
        before = read_text(path)
        after = edit(before)
        if after != before:
            _refuse_open_secrets(path, before, after, force=force)
            home.refuse_if_invalid(path, pointer, before, after, force=force)
            rewrite_text(path, after)
            home.load_edit(path, force=force)
        old, new = (find(yaml_reader.load(text, file=str(path)).value, pointer) for text in (before, after))
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
    hidden = is_secrets_file(path.name) or has_secret_name(pointer)
    change: dict[str, Json] = {
        name: REDACTED if hidden else value
        for name, value in (("old", old), ("new", new))
        if not isinstance(value, UnsetType)
    }
    output.print_result(
        {"path": str(path), "pointer": pointer, **change, "unchanged": after == before},
        lambda: [_sentence(path, pointer, change, unchanged=after == before)],
    )
    if after != before:
        warn_if_shadowed(options.daemon_settings({}).settings, path, [pointer])


def _refuse_open_secrets(path: Path, before: str, after: str, *, force: bool) -> None:
    """End the program before an edit that writes a secret in the open, with the command that seals it.

    Args:
        path: The file; one of another directory than the environments' is not looked at.
        before: Its text.
        after: Its text with the edit.
        force: Only warn.
    """
    from aliciacfg.sources import layers, loader, seal_file
    from aliciacfg.sources.open_secrets import open_secrets

    settings = options.daemon_settings({}).settings
    if path.resolve().parent != Path(settings.environments_dir).resolve():
        return
    try:
        sources = layers.Sources({}, loader.load_schemas(Path(settings.schemas_dir)))
        environment = seal_file.file_environment(path)
        found = open_secrets(after, path=path, sources=sources)
        old, new = (yaml_reader.load(text, file=str(path)).value for text in (before, after))
    except (AliciacfgError, OSError):
        # What cannot be read cannot be judged; `aliciacfg check` says why.
        return
    fresh = [secret for secret in found if find(old, secret.place) != find(new, secret.place)]
    if not fresh:
        return
    secret = fresh[0]
    where = "SERVICE" if secret.service is None else secret.service
    command = f"aliciacfg secret set {where} {secret.pointer} -e {environment or 'ENVIRONMENT'}"
    if secret.marked:
        finding, remedy = f"{secret.pointer} is a secret", command
    else:
        finding = f"{secret.pointer} is an address with a password in it"
        remedy = f"{secret.first}, then: {command}"
    if not force:
        fail(
            f"{finding}, and other users of this machine see command lines; nothing was written",
            EXIT_USAGE,
            hint=f"{remedy}; --force writes it in the open",
        )
    notices.print_warning(f"{finding} and stands in the open now; seal it: aliciacfg seal-file {path}")


def _sentence(path: Path, pointer: str, change: "dict[str, Json]", *, unchanged: bool) -> str:
    shown = {name: json.dumps(value, ensure_ascii=False) for name, value in change.items()}
    place = f"{path} {pointer}"
    if unchanged:
        return f"{place}: nothing to change"
    return f"{place}: {shown.get('old', '(not set)')} → {shown.get('new', '(removed)')}"
