"""Keeps imports of libraries from loading what the daemon does not use, which would stay in memory."""

import contextlib
import os
import sys
from collections.abc import Generator

# Where OpenSSL looks for the system's certificate authorities (SSL_CTX_set_default_verify_paths(3)).
_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@contextlib.contextmanager
def absent(*names: str) -> Generator[None]:
    """Have an import in the block fail with ModuleNotFoundError, as if a module were not installed.

    Args:
        names: The modules; one that is imported already stays.
    """
    hidden = [name for name in names if name not in sys.modules]
    # The import system's own mark of a module that is not there.
    sys.modules.update(dict.fromkeys(hidden))  # pyright: ignore[reportCallIssue, reportArgumentType]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def without_authorities() -> Generator[None]:
    """Have a TLS context that is made in the block trust none of the system's authorities."""
    before = {name: os.environ.get(name) for name in _AUTHORITIES}
    os.environ.update(dict.fromkeys(_AUTHORITIES, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
