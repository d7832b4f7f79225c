"""Make what the containers of compose.replicas.yaml share, unless it is there already.

Usage: prepare_replicas.py DATA SECRETS

In DATA: ``admin.token``, the first administrator's token, and ``keys.json``, the sealing keys, which each daemon
copies. In SECRETS: ``password``, that of the database's user, and ``pgpass`` with the same for the daemons, in the
format of libpq.
"""

import secrets
import sys
import time
from pathlib import Path

from aliciacfg.access import tokens
from aliciacfg.atomic_files import replace_file
from aliciacfg.sealing.key_file import KeyFile

_PASSWORD_BYTES = 24
# Host, port, database, user: those of ALICIACFG_DATABASE_URL.
_ACCOUNT = "alicia_database:5432:aliciacfg:aliciacfg"


def prepare(data: Path, private: Path) -> None:
    """Make the files that are missing, each readable by its owner only.

    Args:
        data: The directory that all daemons read.
        private: The directory that daemons and database read.

    Raises:
        OSError: A file cannot be written.
    """
    KeyFile.load_or_create(data / "keys.json", now=time.time())
    _make(data / "admin.token", tokens.generate())
    _make(private / "password", secrets.token_hex(_PASSWORD_BYTES))
    # Anew each time: the password may have been set by hand.
    password = (private / "password").read_text().strip()
    replace_file(private / "pgpass", f"{_ACCOUNT}:{password}\n".encode(), mode=0o600)


def _make(file: Path, text: str) -> None:
    if not file.exists():
        replace_file(file, f"{text}\n".encode(), mode=0o600)
        print(f"made {file}")


if __name__ == "__main__":
    prepare(*map(Path, sys.argv[1:]))
