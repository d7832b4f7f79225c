"""Make what the containers of compose.replicas.yaml share, unless it is there already.

Usage: prepare_replicas.py DATA SECRETS

In DATA: ``admin.token``, the first administrator's token, and ``key-encryption.key``, which wraps the sealing keys in
the database. In SECRETS: ``password``, that of the database's user, and ``pgpass`` with the same for the daemons, in
the format of libpq.
"""

import secrets
import sys
from pathlib import Path

from aliciacfg.access import tokens
from aliciacfg.atomic_files import replace_file
from aliciacfg.sealing.key_encryption import FILE_NAME, KeyEncryptionKey

_PASSWORD_BYTES = 24
# Host, port, database, user: those of ALICIACFG_DATABASE_URL.
_ACCOUNT = "alicia_database:5432:aliciacfg:aliciacfg"


def prepare(data: Path, private: Path) -> None:
    """Make the files that are missing, each readable by its owner only.

    Args:
        data: The directory that all daemons read.
        private: The directory that daemons and database read.

    Raises:
        KeyFileError: The key-encryption key cannot be written.
        OSError: Another file cannot be written.
    """
    if not (data / FILE_NAME).exists():
        KeyEncryptionKey.create(data / FILE_NAME)
        print(f"made {data / FILE_NAME}")
    _make(data / "admin.token", tokens.generate())
    _make(private / "password", secrets.token_hex(_PASSWORD_BYTES))
    # Anew each time: the password may have been set by hand.
    password = (private / "password").read_text().strip()
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    replace_file(private / "pgpass", f"{_ACCOUNT}:{escaped}\n".encode(), mode=0o600)


def _make(file: Path, text: str) -> None:
    if not file.exists():
        replace_file(file, f"{text}\n".encode(), mode=0o600)
        print(f"made {file}")


if __name__ == "__main__":
    prepare(*map(Path, sys.argv[1:]))
