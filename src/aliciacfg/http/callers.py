"""Who sends a request: the bearer of a token, a user of this machine, or a web page of another site."""

import ipaddress
import pwd
import socket
import struct
from collections.abc import Iterable
from functools import lru_cache

from aiohttp import HttpVersion11, hdrs, web

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.errors import Forbidden, Unauthorized

CALLER = web.RequestKey("caller", Caller)
"""Who sends a request, once that was determined."""

# The headers that clients send on their own. Proxies add others, under names without number (Forwarded, Via,
# X-Forwarded-*, X-Real-IP, CF-Connecting-IP, …), so every header that is not listed counts as a proxy's.
_OF_CLIENTS = frozenset(
    name.lower()
    for name in (
        hdrs.ACCEPT, hdrs.ACCEPT_CHARSET, hdrs.ACCEPT_ENCODING, hdrs.ACCEPT_LANGUAGE, hdrs.AUTHORIZATION,
        hdrs.CACHE_CONTROL, hdrs.CONNECTION, hdrs.CONTENT_ENCODING, hdrs.CONTENT_LENGTH, hdrs.CONTENT_TYPE,
        hdrs.COOKIE, hdrs.DATE, "DNT", hdrs.EXPECT, hdrs.HOST, hdrs.IF_MATCH, hdrs.IF_MODIFIED_SINCE,
        hdrs.IF_NONE_MATCH, hdrs.IF_RANGE, hdrs.IF_UNMODIFIED_SINCE, hdrs.KEEP_ALIVE, "Last-Event-ID", hdrs.ORIGIN,
        hdrs.PRAGMA, "Priority", hdrs.RANGE, hdrs.REFERER, "Sec-CH-UA", "Sec-CH-UA-Mobile", "Sec-CH-UA-Platform",
        "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User", "Sec-GPC", hdrs.TE,
        hdrs.TRANSFER_ENCODING, hdrs.UPGRADE, "Upgrade-Insecure-Requests", hdrs.USER_AGENT,
    )
)  # fmt: skip
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
# A home uses a few; a client that invents Host headers must not fill the memory. The longest name of DNS, and a port.
_MAX_ACCEPTED_HOSTS = 256
_MAX_HOST_LENGTH = 260


def identify(request: web.Request, authorizer: Authorizer) -> Caller:
    """Return who sends a request.

    That is the user of this machine at the other end of the Unix socket, the bearer of a token (RFC 6750 §2.1), or
    an anonymous caller. Only the Unix socket, and TLS or loopback without a sign of a proxy, are private: the way
    from a proxy to its client is unknown.

    Raises:
        Unauthorized: The token is malformed, unknown, expired or revoked, or the scheme is not Bearer.
    """
    if is_local(request):
        return Caller(_peer_user(request), "local", proven=True, role="admin", private=True)
    peer = request.remote
    private = _is_private(request, peer)
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is None:
        return Caller(None, "http", address=peer, private=private)
    token = authorizer.verify_token(bearer_token(header))
    return Caller(
        token.name, "http", proven=True, role=token.role, address=peer, private=private, token_id=token.token_id
    )


def bearer_token(header: str) -> str:
    """Return the text of the token in a header ``Authorization``.

    Raises:
        Unauthorized: The scheme is not Bearer.
    """
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("Send a token: Authorization: Bearer acfg_… (aliciacfg token create makes one).")
    return token.strip()


@lru_cache(maxsize=_MAX_ACCEPTED_HOSTS)
def is_loopback(host: str) -> bool:
    """Return whether a name or address is on the loopback interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class BrowserGuard:
    """Refuses requests that a web page of another site makes a browser send.

    The daemon answers requests without a token where no rules exist, so a browser on the same machine or network must
    not be used against it: neither by a request to another origin, nor by DNS rebinding.

    Attributes:
        accepted_hosts: ``Host`` headers that passed the check, each as it was sent; not all of them.
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
        host = request.headers.get(hdrs.HOST, "")
        if host not in self.accepted_hosts:
            if is_local(request):
                return
            self._check_host(request, host)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or is_local(request):
            return
        # A proxy may end TLS before this daemon, so that a page of its own has another scheme than the request.
        if origin.lower() not in {f"{request.scheme}://{host}".lower(), f"https://{host}".lower()}:
            raise Forbidden(f"The Origin {origin[:100]!r} is another site; web pages of other sites may not do this.")

    def _check_host(self, request: web.Request, host: str) -> None:
        """Check a Host that has not been accepted before.

        Raises:
            Forbidden: It is not a name of this daemon.
        """
        name = _name_of(request)
        if name not in self._names and not self._is_safe(name):
            raise Forbidden(
                f"The Host {host[:100]!r} is not a name of this daemon; use http://127.0.0.1, or list the name in "
                "ALICIACFG_HTTP_ALLOWED_HOSTS."
            )
        if len(self.accepted_hosts) < _MAX_ACCEPTED_HOSTS and len(host) <= _MAX_HOST_LENGTH:
            self.accepted_hosts.add(host)

    def _is_safe(self, name: str) -> bool:
        """Return whether no attacker can have a name: an address, or, beyond loopback, a name without a dot."""
        if self._on_loopback:
            return is_loopback(name)
        if name and "." not in name and ":" not in name:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def is_local(request: web.Request) -> bool:
    """Return whether a request arrived on the Unix socket."""
    transport = request.transport
    return transport is not None and isinstance(transport.get_extra_info("sockname"), str)


def _is_private(request: web.Request, peer: str | None) -> bool:
    """Return whether the sender is at the other end of a connection over TLS or loopback, as far as can be seen.

    What could be a proxy is taken for one. HTTP/1.0 is what proxies without further settings speak, and a Host that
    is no loopback name is what they keep from their client.
    """
    if not _OF_CLIENTS.issuperset(map(str.lower, request.headers)) or request.version < HttpVersion11:
        return False
    return request.secure or (peer is not None and is_loopback(peer) and is_loopback(_name_of(request)))


def _name_of(request: web.Request) -> str:
    """Return the name or address in the Host of a request, in lower case, without the port."""
    host = request.headers.get(hdrs.HOST, "")
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() else host).lower()


def _peer_user(request: web.Request) -> str:
    """Return the name of the user at the other end of the Unix socket; ``local`` where the system does not say."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return "local"
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid_{uid}"
