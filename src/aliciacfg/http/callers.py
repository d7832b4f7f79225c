"""Who asks, and whether a web page of another site does."""

import ipaddress
import pwd
import socket
import struct
from collections.abc import Iterable

from aiohttp import hdrs, web

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.errors import Forbidden, Unauthorized

# RFC 7239, RFC 9110 §7.6.3, and what proxies did before.
_FORWARDING = (hdrs.FORWARDED, hdrs.VIA, hdrs.X_FORWARDED_FOR, "X-Real-IP")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MAX_KNOWN = 4096


def identify(request: web.Request, authorizer: Authorizer) -> Caller:
    """Who asks: the bearer of the token that came with the request (RFC 6750 §2.1), else nobody.

    Raises:
        Unauthorized: The token is not one of ours, or no longer.
    """
    if _is_local(request):
        return Caller(_peer_name(request), "local", proven=True, role="admin", private=True)
    peer = request.remote
    private = request.secure or (peer is not None and is_loopback(peer) and not _is_forwarded(request))
    header = request.headers.get("Authorization")
    if header is None:
        return Caller(None, "http", address=peer, private=private)
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("Send a token: Authorization: Bearer acfg_… (aliciacfg token create makes one).")
    name, role = authorizer.bearer(token.strip())
    return Caller(name, "http", proven=True, role=role, address=peer, private=private)


class TrustedHosts:
    """Refuses what a foreign web page makes a browser send: it must not drive a daemon on loopback.

    Attributes:
        good: Hosts that were found good.
    """

    def __init__(self, *, listens_on: str, allowed: Iterable[str]) -> None:
        self._loopback = is_loopback(listens_on)
        self._known = _LOOPBACK_NAMES | {name.lower() for name in allowed}
        self.good: set[str] = set()

    def check(self, request: web.Request) -> None:
        """Refuse what a foreign web page makes a browser send: it must not drive a daemon on loopback.

        Raises:
            Forbidden: The Host is not one of ours (DNS rebinding), or the Origin is another site.
        """
        if _is_local(request):
            return
        host = request.headers.get("Host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() not in self._known and not self._believable(name.lower()):
            raise Forbidden(
                f"The Host {host[:100]!r} is not a name of this daemon; use http://127.0.0.1, or list the name in "
                "ALICIACFG_HTTP_ALLOWED_HOSTS."
            )
        if len(self.good) < _MAX_KNOWN:
            self.good.add(host)
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() != f"{request.scheme}://{host}".lower():
            raise Forbidden(f"The Origin {origin[:100]!r} is another site; web pages of other sites may not do this.")

    def _believable(self, name: str) -> bool:
        """Beyond loopback, addresses and names without a dot: no web page can be served under one of ours."""
        if self._loopback:
            return is_loopback(name.strip("[]"))
        if name and "." not in name and ":" not in name:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def _is_local(request: web.Request) -> bool:
    """Whether a request came in through the Unix socket."""
    transport = request.transport
    return transport is not None and isinstance(transport.get_extra_info("sockname"), str)


def _is_forwarded(request: web.Request) -> bool:
    """Whether a proxy passes a request on, so that the peer is not who asks."""
    return any(name in request.headers for name in _FORWARDING)


def _peer_name(request: web.Request) -> str:
    """The user of this machine at the other end of a Unix socket."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return "local"
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid_{uid}"


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
