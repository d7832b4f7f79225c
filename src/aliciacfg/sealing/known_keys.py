"""The known keys of daemons: a key is pinned at its first use, like the host keys of ssh.

A key that is received over the network may be forged, and its owner can read everything that is sealed for it. The file
has a line for each daemon with its address and the id of its key; lines may be removed by hand.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from aliciacfg.atomic_files import replace_file
from aliciacfg.errors import AliciacfgError
from aliciacfg.file_errors import unreadable, unwritable
from aliciacfg.sealing.boxes import PublicKey

_DEFAULT_PORTS = {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}
# The number of words in a line: an address and a key id.
_WORDS = 2


class KeyChanged(AliciacfgError):
    """A daemon has a key other than the pinned or expected one."""


class PinsUnusable(AliciacfgError):
    """The file of pinned keys cannot be read or written, or is malformed."""


def pin_file(environ: Mapping[str, str]) -> Path:
    """Return the path of the user's pins, as the XDG Base Directory Specification defines it."""
    configured = environ.get("XDG_CONFIG_HOME", "")
    # The specification says to ignore relative paths.
    directory = Path(configured) if configured.startswith("/") else Path.home() / ".config"
    return directory / "aliciacfg" / "known_keys"


def daemon_name(url: str) -> str:
    """Return an address in the form in which it is pinned: scheme, host, port and path, without user and query.

    Args:
        url: An address such as ``http://127.0.0.1:8026`` or ``mqtt://broker:1883``.

    Raises:
        ValueError: It is not such an address.
    """
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    if not host or port is None or any(character.isspace() for character in url):
        raise ValueError(f"{url[:100]!r} is not an address; write for example http://127.0.0.1:8026")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}{parts.path.rstrip('/')}"


class KeyPins:
    """The pinned keys of one user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, daemon: str, key: PublicKey, *, accept: str | None = None) -> Literal["known", "pinned"]:
        """Check whether a daemon's key is the pinned one; pin it if none is pinned, or if it is the key to accept.

        Args:
            daemon: The daemon's address, as ``daemon_name`` returns it.
            key: The key that the daemon has now.
            accept: The id of the key to accept instead of the pinned one.

        Raises:
            KeyChanged: The key is another one.
            PinsUnusable: The pins cannot be read or written.
        """
        lines = self._lines()
        found, pinned = key.key_id, dict(lines).get(daemon)
        if accept is not None and found != accept:
            raise KeyChanged(f"{daemon} has key {found}, not the key {accept!r:.80} to accept; nothing was sealed")
        if pinned == found:
            return "known"
        if pinned is not None and accept is None:
            raise KeyChanged(
                f"the key of {daemon} has changed from {pinned}, which is pinned in {self._path}, to {found}. The "
                "owner of a forged key could read the values that you seal. If the daemon's operator made a new key "
                f"(`aliciacfg keys show` on its machine lists {found}), accept it with --accept-new-key {found}"
            )
        self._write([*(line for line in lines if line[0] != daemon), (daemon, found)])
        return "pinned"

    def _lines(self) -> list[tuple[str, str]]:
        try:
            text = self._path.read_text("utf-8")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PinsUnusable(unreadable(self._path, error)) from error
        except UnicodeDecodeError as error:
            raise PinsUnusable(f"{self._path} is not UTF-8: byte {error.start} is invalid") from error
        found: list[tuple[str, str]] = []
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if len(words) != _WORDS:
                # If a damaged line were ignored, any key could be pinned in its place.
                raise PinsUnusable(
                    f"{self._path}:{number}: expected an address and a key id; correct or remove the line"
                )
            found.append((words[0], words[1]))
        return found

    def _write(self, lines: list[tuple[str, str]]) -> None:
        text = "".join(f"{daemon} {key_id}\n" for daemon, key_id in lines)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path, text.encode(), mode=0o600)
        except OSError as error:
            raise PinsUnusable(unwritable(self._path, error)) from error
