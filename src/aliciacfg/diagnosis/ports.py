"""Whether the daemon can listen for HTTP, or who is in its way."""

import contextlib
import errno
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from aliciacfg.diagnosis.finding import Finding, fail, ok

_LISTENS = "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def look_at_http_port(host: str, port: int) -> Finding:
    """Check whether a daemon that is started now could listen for HTTP."""
    where = f"{host}:{port}"
    if port == 0:
        return ok("HTTP", "a free port is taken")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except socket.gaierror as error:
        return fail("HTTP", f"{host} is no address of this machine ({error.strerror})", "set ALICIACFG_HTTP_HOST")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            holder = ", ".join(dict.fromkeys(_holders(port))) or "another program"
            return fail("HTTP", f"{where} is taken by {holder}", "stop it, or set ALICIACFG_HTTP_PORT")
        remedy = "ports below 1024 need rights" if error.errno == errno.EACCES else "set ALICIACFG_HTTP_HOST"
        return fail("HTTP", f"{where} cannot be listened on: {error.strerror}", remedy)
    return ok("HTTP", f"{where} is free")


def _holders(port: int) -> Iterator[str]:
    """Yield the programs that listen on a port, as far as this user may know them."""
    inodes = set(_listening(port))
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                found = _SOCKET.fullmatch(str(descriptor.readlink()))
                if found and found[1] in inodes:
                    yield f"{(process / 'comm').read_text().strip()} (pid {process.name})"
                    break


def _listening(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port (proc(5), /proc/net/tcp)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]
