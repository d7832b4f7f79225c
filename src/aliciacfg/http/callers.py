"""Who sends a request: the bearer of a token, a user of this machine, or a web page of another site."""

import ipaddress
import pwd
import socket
import struct
from collections.abc import Iterable

from aiohttp import hdrs, web

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.errors import Forbidden, Unauthorized

CALLER = web.RequestKey("caller", Caller)
"""Who sends a request, once that was determined."""

# Headers that proxies add: RFC 7239, RFC 9110 §7.6.3, and their predecessors.
_FORWARDING = (hdrs.FORWARDED, hdrs.VIA, hdrs.X_FORWARDED_FOR, "X-Real-IP")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
# A home uses a few; a client that invents Host headers must not fill the memory.
_MAX_ACCEPTED_HOSTS = 4096


def identify(request: web.Request, authorizer: Authorizer) -> Caller:
    """Return who sends a request.

    That is the user of this machine at the other end of the Unix socket, the bearer of a token (RFC 6750 §2.1), or
    an anonymous caller. Only the Unix socket, TLS and a direct loopback connection are private: a proxy in between
    could read along.

    Raises:
        Unauthorized: The token is malformed, unknown, expired or revoked, or the scheme is not Bearer.
    """
    if _is_local(request):
        return Caller(_peer_user(request), "local", proven=True, role="admin", private=True)
    peer = request.remote
    private = request.secure or (peer is not None and is_loopback(peer) and not _is_forwarded(request))
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is None:
        return Caller(None, "http", address=peer, private=private)
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("Send a token: Authorization: Bearer acfg_… (aliciacfg token create makes one).")
    name, role = authorizer.verify_token(token.strip())
    return Caller(name, "http", proven=True, role=role, address=peer, private=private)


def is_loopback(host: str) -> bool:
    """Return whether a name or address is on the loopback interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class BrowserGuard:
    """Refuses requests that a web page of another site makes a browser send.

    The daemon answers requests without a token where no rules exist, so a browser on the same machine or network must
    not be used against it: neither by a request to another origin, nor by DNS rebinding.

    Attributes:
        accepted_hosts: ``Host`` headers that passed the check, each as it was sent.
    """

    def __init__(self, *, listens_on: str, allowed_hosts: Iterable[str]) -> None:
        self._on_loopback = is_loopback(listens_on)
        self._names = _LOOPBACK_NAMES | {name.lower() for name in allowed_hosts}
        self.accepted_hosts: set[str] = set()

    def check(self, request: web.Request) -> None:
        """Compare the request's Host and Origin with the names of this daemon.

        Raises:
            Forbidden: The Host is not a name of this daemon, or the Origin is another site.
        """
        if _is_local(request):
            return
        host = request.headers.get(hdrs.HOST, "")
        name, _, port = host.rpartition(":")
        name = (name if port.isdigit() else host).lower()
        if name not in self._names and not self._is_safe(name):
            raise Forbidden(
                f"The Host {host[:100]!r} is not a name of this daemon; use http://127.0.0.1, or list the name in "
                "ALICIACFG_HTTP_ALLOWED_HOSTS."
            )
        if len(self.accepted_hosts) < _MAX_ACCEPTED_HOSTS:
            self.accepted_hosts.add(host)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and origin.lower() != f"{request.scheme}://{host}".lower():
            raise Forbidden(f"The Origin {origin[:100]!r} is another site; web pages of other sites may not do this.")

    def _is_safe(self, name: str) -> bool:
        """Return whether no attacker can have a name: an address, or, beyond loopback, a name without a dot."""
        if self._on_loopback:
            return is_loopback(name.strip("[]"))
        if name and "." not in name and ":" not in name:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def _is_local(request: web.Request) -> bool:
    """Return whether a request arrived on the Unix socket."""
    transport = request.transport
    return transport is not None and isinstance(transport.get_extra_info("sockname"), str)


def _is_forwarded(request: web.Request) -> bool:
    """Return whether a proxy forwards a request, so that its peer is not its sender."""
    return any(name in request.headers for name in _FORWARDING)


def _peer_user(request: web.Request) -> str:
    """Return the name of the user at the other end of the Unix socket; ``local`` where the system does not tell."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return "local"
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid_{uid}"
