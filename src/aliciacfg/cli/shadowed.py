"""The warning that an edited value of a file does not come into force, because a run-time change lies above it."""

from pathlib import Path

import msgspec

from aliciacfg.api.answers import ExplainAnswer
from aliciacfg.cli import notices, options
from aliciacfg.cli.local_client import ask_daemon
from aliciacfg.documents import format_pointer, parse_pointer
from aliciacfg.model.names import SECRETS_SUFFIX

_SERVICES = "services"


def warn_if_shadowed(file: Path, pointer: str) -> None:
    """Print a warning if the daemon of this home holds a run-time change at a place of an environment file.

    Args:
        file: The environment file.
        pointer: JSON Pointer in it; the place of a whole service or of all services is not looked at.
    """
    section, *rest = parse_pointer(pointer) or ("",)
    settings = options.daemon_settings({}).settings
    if section != _SERVICES or not rest[1:] or file.resolve().parent != Path(settings.environments_dir).resolve():
        return
    service, place = rest[0], format_pointer(tuple(rest[1:]))
    name = file.stem.removesuffix(SECRETS_SUFFIX)
    answer = ask_daemon(settings, "explain", service, {} if name == "base" else {"environment": name})
    try:
        values = {} if answer is None else msgspec.convert(answer, ExplainAnswer).values
    except msgspec.ValidationError:
        # A refusal: there is no such configuration.
        return
    for found, explained in values.items():
        inside, around = f"{found}/".startswith(f"{place}/"), f"{place}/".startswith(f"{found}/")
        if explained.layer == "overlay" and (inside or around):
            notices.print_warning(
                f"{found}: shadowed by overlay, revision {explained.revision}; the file counts after: "
                f"aliciacfg unset {service} {found}{'' if name == 'base' else f' -e {name}'}"
            )
