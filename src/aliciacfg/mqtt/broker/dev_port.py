"""The port of the broker that ``serve --dev`` found or started, noted for commands that run beside the daemon."""

import contextlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from aliciacfg.atomic_files import replace_file

_FILE = "dev-broker-port"


@contextmanager
def noted_port(data_dir: Path, port: int) -> Generator[None]:
    """Note a port in the data directory for as long as the daemon runs; that it cannot be noted is no error."""
    path = data_dir / _FILE
    with contextlib.suppress(OSError):
        replace_file(path, f"{port}\n".encode(), mode=0o600)
    try:
        yield
    finally:
        forget_port(data_dir)


def forget_port(data_dir: Path) -> None:
    """Remove the noted port, such as that of a daemon that was killed."""
    with contextlib.suppress(OSError):
        (data_dir / _FILE).unlink()


def read_port(data_dir: Path) -> int | None:
    """Return the noted port; None if no daemon runs with a broker of its own choice."""
    try:
        text = (data_dir / _FILE).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65535 else None  # noqa: PLR2004 - a port
