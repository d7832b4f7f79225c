"""Which daemon has which key: pinned when it is first seen, like the host keys of ssh.

A key that comes over the network could be anybody's, and what is sealed for it is readable by its owner. The
file has a line for each daemon, its address and the id of its key; lines may be removed by hand.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from aliciacfg.atomic_files import replace_file
from aliciacfg.errors import AliciacfgError
from aliciacfg.sealing.boxes import PublicKey

_DEFAULT_PORTS = {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}
# Of a line.
_WORDS = 2


class KeyChanged(AliciacfgError):
    """A daemon shows another key than the one that is pinned or expected."""


class PinsUnusable(AliciacfgError):
    """The file of pinned keys cannot be read or written."""


def pin_file(environ: Mapping[str, str]) -> Path:
    """Where the user's pins are, after the XDG Base Directory Specification."""
    configured = environ.get("XDG_CONFIG_HOME", "")
    # The specification has relative paths ignored.
    directory = Path(configured) if configured.startswith("/") else Path.home() / ".config"
    return directory / "aliciacfg" / "known_keys"


def daemon_name(url: str) -> str:
    """An address as it is pinned: scheme, host and port, and a path behind a reverse proxy; no user, no query.

    Args:
        url: ``http://127.0.0.1:8026`` or ``mqtt://broker:1883``.

    Raises:
        ValueError: It is no such address.
    """
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    if not host or port is None or any(character.isspace() for character in url):
        raise ValueError(f"{url[:100]!r} is no address; write for example http://127.0.0.1:8026")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}{parts.path.rstrip('/')}"


class KeyPins:
    """The pinned keys of one user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, daemon: str, key: PublicKey, *, accept: str | None = None) -> Literal["known", "pinned"]:
        """Say whether a daemon's key is the pinned one; pin it where none is, or where it is to be accepted.

        Args:
            daemon: As ``daemon_name`` has it.
            key: What the daemon shows now.
            accept: The only key id that is right, whatever is pinned.

        Raises:
            KeyChanged: It is another.
            PinsUnusable: The pins cannot be read or written.
        """
        lines = self._lines()
        found, pinned = key.key_id, dict(lines).get(daemon)
        if accept is not None and found != accept:
            raise KeyChanged(f"{daemon} shows key {found}, not the {accept!r:.80} to accept; nothing was sealed")
        if pinned == found:
            return "known"
        if pinned is not None and accept is None:
            raise KeyChanged(
                f"the key of {daemon} has changed: {pinned} is pinned in {self._path}, {found} is shown. Whoever put "
                "another key there could read what you seal. If the daemon's operator made a new key (`aliciacfg keys "
                f"show` on its machine says {found}), accept it with --accept-new-key {found}"
            )
        self._write([*(line for line in lines if line[0] != daemon), (daemon, found)])
        return "pinned"

    def _lines(self) -> list[tuple[str, str]]:
        try:
            text = self._path.read_text("utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise PinsUnusable(f"{self._path} cannot be read: {error}") from error
        found: list[tuple[str, str]] = []
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if len(words) != _WORDS:
                # Passed over, a damaged line would let any key be pinned anew.
                raise PinsUnusable(f"{self._path}:{number}: expected an address and a key id; mend or remove the line")
            found.append((words[0], words[1]))
        return found

    def _write(self, lines: list[tuple[str, str]]) -> None:
        text = "".join(f"{daemon} {key_id}\n" for daemon, key_id in lines)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path, text.encode(), mode=0o600)
        except OSError as error:
            raise PinsUnusable(f"{self._path} cannot be written: {error.strerror}") from error
