"""Who sends a request, from its connection and headers; no server."""

import os
import pwd
import socket
import ssl
from typing import Any, cast
from unittest import mock

import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, web
from aiohttp.test_utils import make_mocked_request

from aliciacfg.access.caller import Caller
from aliciacfg.errors import Forbidden, Unauthorized
from aliciacfg.http import callers
from aliciacfg.http.callers import BrowserGuard, identify, is_loopback
from aliciacfg.model.records import Token

LOOPBACK = "127.0.0.1"
ELSEWHERE = "192.168.1.20"
# That there is one says that the request came over TLS.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class Tokens:
    """Stands for the authorizer: knows one token."""

    def verify_token(self, text: str) -> Token:
        if text != "acfg_good":
            raise Unauthorized("The token is not known.")
        return Token(token_id="0a1b2c3d4e5f", digest="", name="operator", role="admin", created=0.0)


def request(
    peer: str = LOOPBACK,
    headers: dict[str, str] | None = None,
    *,
    tls: bool = False,
    version: HttpVersion = HttpVersion11,
) -> web.Request:
    return _request({"peername": (peer, 50000), "sockname": (LOOPBACK, 8026)}, headers, tls=tls, version=version)


def local_request(connection: socket.socket, headers: dict[str, str]) -> web.Request:
    return _request({"peername": "", "sockname": "/data/aliciacfg.sock", "socket": connection}, headers)


def _request(
    extra: dict[str, Any],
    headers: dict[str, str] | None,
    *,
    tls: bool = False,
    version: HttpVersion = HttpVersion11,
) -> web.Request:
    transport = mock.Mock()
    transport.get_extra_info = lambda name, default=None: extra.get(name, default)
    return make_mocked_request(
        "GET",
        "/config/bell",
        version=version,
        headers={"Host": "localhost", **(headers or {})},
        transport=transport,
        sslcontext=TLS if tls else None,
    )


def caller(made: web.Request) -> Caller:
    return identify(made, cast("Any", Tokens()))


def test_the_bearer_of_a_token_is_proven():
    """RFC 6750 §2.1, with the scheme in any case."""
    for scheme in ("Bearer", "bearer", "BEARER "):
        found = caller(request(ELSEWHERE, {"Authorization": f"{scheme} acfg_good"}))
        assert found == Caller(
            "operator", "http", proven=True, role="admin", address=ELSEWHERE, token_id="0a1b2c3d4e5f"
        )


@pytest.mark.parametrize("header", ["Bearer", "Bearer acfg_other", "Basic b3BlcmF0b3I6eA==", "acfg_good", ""])
def test_a_wrong_token_is_not_anonymous(header: str):
    """It is refused, so that its sender notices."""
    with pytest.raises(Unauthorized):
        caller(request(headers={"Authorization": header}))


def test_without_a_token_the_caller_is_anonymous():
    """No name, nothing proven; the address is known."""
    assert caller(request(ELSEWHERE)) == Caller(None, "http", address=ELSEWHERE)


@pytest.mark.parametrize(
    ("peer", "tls", "headers", "private"),
    [
        (LOOPBACK, False, {}, True),
        ("::1", False, {}, True),
        (ELSEWHERE, False, {}, False),
        (ELSEWHERE, True, {}, True),
        (LOOPBACK, False, {"Forwarded": "for=192.168.1.20"}, False),
        (LOOPBACK, False, {"Via": "1.1 proxy"}, False),
        (LOOPBACK, False, {"X-Forwarded-For": "192.168.1.20"}, False),
        (LOOPBACK, False, {"X-Real-IP": "192.168.1.20"}, False),
        (LOOPBACK, False, {"Host": "[::1]:8026"}, True),
        (LOOPBACK, False, {"Host": "127.0.0.1:8026"}, True),
        (LOOPBACK, False, {"Host": "config.home"}, False),
        (LOOPBACK, False, {"Host": ""}, False),
        (ELSEWHERE, True, {"Host": "config.home"}, True),
    ],
)
def test_only_tls_and_a_direct_loopback_connection_are_private(
    peer: str, tls: bool, headers: dict[str, str], private: bool
):
    """A proxy on this machine forwards what others send; one that adds nothing may still keep the Host."""
    assert caller(request(peer, headers, tls=tls)).private is private


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-Proto", "x-forwarded-host", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded", "Forwarded",
        "Forwarded-For", "X-Original-Forwarded-For", "X-Original-URL", "X-Client-IP", "Client-IP", "True-Client-IP",
        "CF-Connecting-IP", "CF-Ray", "CDN-Loop", "Fastly-Client-IP", "Fly-Client-IP", "X-Cluster-Client-IP",
        "X-Envoy-External-Address", "X-ProxyUser-Ip", "Proxy-Connection", "WL-Proxy-Client-IP", "X-Scheme",
        "Front-End-Https", "X-Request-Id", "X-Amzn-Trace-Id", "Max-Forwards", "X-Some-Proxy-Of-Tomorrow",
    ],
)  # fmt: skip
def test_any_header_that_clients_do_not_send_on_their_own_tells_of_a_proxy(header: str, tls: bool):
    """Whatever the proxy calls it, and without a word about the client: the secrets stay redacted."""
    assert caller(request(headers={header: "https"}, tls=tls)).private is False


@pytest.mark.parametrize("version", [HttpVersion10, HttpVersion11])
def test_a_request_in_http_1_0_is_taken_for_a_proxys(version: HttpVersion):
    """The proxy nginx passes requests on like that, with its own Host and no header of a proxy."""
    made = request(version=version)
    assert caller(made).private is (version == HttpVersion11)


def test_what_browsers_and_curl_send_is_private():
    """Their own headers, in any case."""
    sent = {"user-agent": "curl/8", "Accept": "*/*", "Accept-Encoding": "gzip", "Sec-Fetch-Mode": "cors", "dnt": "1"}
    assert caller(request(headers=sent)).private is True


def test_a_user_on_the_unix_socket_is_an_administrator():
    """Under the name of the system; a token does not change it, and no Host or Origin is checked."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        headers = {"Authorization": "Bearer acfg_other", "Host": "evil.example", "Origin": "https://evil.example"}
        made = local_request(ours, headers)
        name = pwd.getpwuid(os.getuid()).pw_name
        assert caller(made) == Caller(name, "local", proven=True, role="admin", private=True)
        guard = BrowserGuard(listens_on=LOOPBACK, allowed_hosts=())
        guard.check(made)
        assert guard.accepted_hosts == set()


def accepted(guard: BrowserGuard, host: str, **more: str) -> bool:
    try:
        guard.check(request(headers={"Host": host, **more}))
    except Forbidden:
        return False
    assert host in guard.accepted_hosts
    return True


@pytest.mark.parametrize(
    ("host", "on_loopback", "on_network"),
    [
        ("localhost", True, True),
        ("LOCALHOST:8026", True, True),
        ("127.0.0.1:8026", True, True),
        ("127.9.9.9", True, True),
        ("[::1]:8026", True, True),
        ("config.home", True, True),
        ("config.home:8026", True, True),
        ("192.168.1.20:8026", False, True),
        ("[2001:db8::1]", False, True),
        ("raspberrypi", False, True),
        ("raspberrypi:8026", False, True),
        ("evil.example", False, False),
        ("evil.example:8026", False, False),
        ("localhost.evil.example", False, False),
        ("127.0.0.1.evil.example", False, False),
        ("", False, False),
        ("8026", False, False),
    ],
)
def test_a_host_is_accepted_that_no_other_site_can_have(host: str, on_loopback: bool, on_network: bool):
    """Loopback, listed names, and beyond loopback addresses and names without a dot: DNS rebinding has none of them."""
    assert accepted(BrowserGuard(listens_on="localhost", allowed_hosts=["Config.Home"]), host) is on_loopback
    assert accepted(BrowserGuard(listens_on="0.0.0.0", allowed_hosts=["config.home"]), host) is on_network


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:8026", True),
        ("HTTP://LOCALHOST:8026", True),
        ("https://localhost:8026", True),
        ("http://localhost", False),
        ("https://localhost", False),
        ("https://evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_an_origin_is_the_daemon_itself_or_refused(origin: str, allowed: bool):
    """Name and port; the scheme may be HTTPS, which a proxy ends before the daemon."""
    guard = BrowserGuard(listens_on=LOOPBACK, allowed_hosts=())
    assert accepted(guard, "localhost:8026", Origin=origin) is allowed


def test_an_origin_without_tls_is_another_site_than_one_with_it():
    """What is on the way to a page over HTTP may write a page of its own, and send requests from it."""
    guard = BrowserGuard(listens_on=LOOPBACK, allowed_hosts=())
    over_tls = request(headers={"Host": "localhost:8026", "Origin": "http://localhost:8026"}, tls=True)
    with pytest.raises(Forbidden):
        guard.check(over_tls)


def test_accepted_hosts_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """A client that invents Host headers does not fill the memory; more are still checked."""
    monkeypatch.setattr(callers, "_MAX_ACCEPTED_HOSTS", 40)
    guard = BrowserGuard(listens_on="0.0.0.0", allowed_hosts=())
    for number in range(50):
        guard.check(request(headers={"Host": f"host{number}"}))
    assert len(guard.accepted_hosts) == 40


def test_a_host_of_any_length_is_not_kept():
    """It is checked at every request instead."""
    guard = BrowserGuard(listens_on="0.0.0.0", allowed_hosts=())
    guard.check(request(headers={"Host": "h" * 8000}))
    assert guard.accepted_hosts == set()


def test_loopback_names_and_addresses():
    """The whole of 127.0.0.0/8, ::1 and localhost."""
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.20", "localhost.example", "")))
