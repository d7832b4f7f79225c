"""The warning that an edited value of a file does not come into force, because a run-time change lies above it."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from aliciacfg.api.answers.explain import ExplainAnswer
from aliciacfg.cli import notices
from aliciacfg.cli.local_client import ask_daemon
from aliciacfg.documents import format_pointer, parse_pointer
from aliciacfg.model.names import SECRETS_SUFFIX

if TYPE_CHECKING:
    from aliciacfg.settings import Settings

_SERVICES = "services"


def warn_if_shadowed(settings: "Settings", file: Path, pointers: Iterable[str]) -> None:
    """Print a warning for each run-time change that the daemon of this home holds at places of an environment file.

    Args:
        settings: The daemon's.
        file: The environment file; one of another directory is not looked at.
        pointers: JSON Pointers in it; the place of a whole service or of all services is not looked at.
    """
    from aliciacfg.sources.layers import BASE

    if file.resolve().parent != Path(settings.environments_dir).resolve():
        return
    places: dict[str, list[str]] = {}
    for pointer in pointers:
        section, *rest = parse_pointer(pointer) or ("",)
        if section == _SERVICES and rest[1:]:
            places.setdefault(rest[0], []).append(format_pointer(tuple(rest[1:])))
    name = file.stem.removesuffix(SECRETS_SUFFIX)
    environment = None if name == BASE else name
    for service, edited in places.items():
        for found, revision in _in_overlay(settings, service, environment, edited):
            notices.print_warning(
                f"{found}: shadowed by overlay, revision {revision}; the file counts after: "
                f"aliciacfg unset {service} {found}{'' if environment is None else f' -e {environment}'}"
            )


def _in_overlay(
    settings: "Settings", service: str, environment: str | None, edited: Collection[str]
) -> Iterator[tuple[str, int | None]]:
    """Yield the pointers of run-time changes at, around or inside of places of a service, with their revisions."""
    answer = ask_daemon(settings, "explain", service, {} if environment is None else {"environment": environment})
    try:
        values = {} if answer is None else msgspec.convert(answer, ExplainAnswer).values
    except msgspec.ValidationError:
        # A refusal: there is no such configuration.
        return
    for found, explained in values.items():
        if explained.layer == "overlay" and any(
            f"{found}/".startswith(f"{place}/") or f"{place}/".startswith(f"{found}/") for place in edited
        ):
            yield found, explained.revision
