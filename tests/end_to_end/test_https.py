"""HTTPS: the daemon's certificate at start and at SIGHUP, and which one the commands trust."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from brokers import Broker
from callers import token_by_command
from certificates import Authority, Pair
from commands import aliciacfg
from daemons import Daemon
from machine import SECONDS, free_port, wait_until
from repository import ROOT

# The services of its daemons.
HOME_SERVICES = ("ha_bridge", "tts_service", "voice_router")

ADDRESS = "10.77.0.1"


def secured(daemon: Daemon, pair: Pair, authority: Authority) -> Daemon:
    """Configure a daemon that is not started yet for HTTPS."""
    daemon.environ |= {"ALICIACFG_TLS_CERT": str(pair.cert), "ALICIACFG_TLS_KEY": str(pair.key)}
    daemon.tls = authority.context()
    return daemon


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Daemon]:
    """A READY daemon that serves HTTPS, for tests that undo their changes."""
    directory = tmp_path_factory.mktemp("secure")
    broker = Broker(directory / "broker").start()
    made = Daemon(directory / "home", broker_port=broker.port)
    secured(made, authority.issue("secure", "127.0.0.1", "localhost", common_name="secure"), authority).start()
    yield made
    assert made.stop() == 0
    broker.stop()


def port_of(daemon: Daemon) -> int:
    return int(daemon.url.rpartition(":")[2])


def shown_by(daemon: Daemon, authority: Authority, *, version: ssl.TLSVersion | None = None) -> str:
    """Return the common name of the certificate that a new connection gets."""
    context = authority.context()
    if version is not None:
        context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", port_of(daemon)), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        found = connection.getpeercert()
        assert found is not None
        names = [str(value) for part in cast("Any", found["subject"]) for name, value in part if name == "commonName"]
        return names[0] if names else ""


def test_with_a_certificate_it_is_https(secure: Daemon):
    """The READY line has the URL, and reads and writes work as without TLS."""
    assert secure.url.startswith("https://127.0.0.1:")
    first = secure.http("GET", "/config/ha_bridge")
    written = secure.http(
        "PATCH", "/config/ha_bridge", {"limits": {"n": 1}}, headers={"If-Match": first.headers["ETag"]}
    )
    assert written.status == 200
    assert secure.http("GET", "/config/ha_bridge").headers["ETag"] == written.headers["ETag"]


def test_plain_http_on_the_tls_port_is_told_so(secure: Daemon):
    """The error object in plain text, and nothing else; other clients are served."""
    with socket.create_connection(("127.0.0.1", port_of(secure)), SECONDS) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, _, body = plain.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert "use https://" in json.loads(body)["message"]
    assert secure.http("GET", "/health").status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_supported(secure: Daemon, authority: Authority, version: ssl.TLSVersion):
    """Each with a client that offers only this version."""
    assert shown_by(secure, authority, version=version) == "secure"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_1_1_is_not_supported(secure: Daemon, authority: Authority):
    """Also with a client that offers nothing newer."""
    context = authority.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port_of(secure)), SECONDS) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_web_page_of_another_site_cannot_drive_it_either(secure: Daemon):
    """The daemon's own origin has the scheme https; with http it is another site."""
    path, own = "/config/voice_router", secure.url
    assert secure.http("GET", path, headers={"Origin": own}).status == 200
    for headers in (
        {"Origin": own.replace("https", "http")},
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
    ):
        assert secure.http("GET", path, headers=headers).status == 403


def test_clients_without_its_authority_do_not_trust_it(secure: Daemon):
    """The test's authority is not one of the system's."""
    secure.tls, believed = None, secure.tls
    try:
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            secure.http("GET", "/health")
    finally:
        secure.tls = believed


@pytest.mark.parametrize(
    ("cert", "told"),
    [
        ("damaged", "ALICIACFG_TLS_CERT: damaged.pem contains no certificate"),
        ("", "ALICIACFG_TLS_KEY is set without ALICIACFG_TLS_CERT"),
    ],
)
def test_a_certificate_that_cannot_be_used_ends_the_start(make_daemon: Callable[..., Daemon], cert: str, told: str):
    """With exit code 8, the setting and the file; tests/test_tls.py has what can be wrong with a file."""
    environ = {"ALICIACFG_TLS_CERT": f"{cert}.pem" if cert else "", "ALICIACFG_TLS_KEY": "any.key"}
    daemon = make_daemon(environ=environ, broker_port=free_port())
    (daemon.directory / "damaged.pem").write_text("damaged\n")
    assert daemon.spawn().wait_exit() == 8
    assert told in daemon.log.read_text()
    assert "Traceback" not in daemon.log.read_text()


def test_sighup_renews_the_certificate(make_daemon: Callable[..., Daemon], authority: Authority):
    """New connections get the new certificate, open ones continue. A broken file is refused and the old one stays."""
    pair = authority.issue("renewed", "127.0.0.1", "localhost", common_name="first")
    daemon = secured(make_daemon(), pair, authority).start()
    with (
        socket.create_connection(("127.0.0.1", port_of(daemon)), SECONDS) as plain,
        authority.context().wrap_socket(plain, server_hostname="localhost") as kept,
    ):
        assert shown_by(daemon, authority) == "first"
        authority.issue("next", "127.0.0.1", "localhost", common_name="second").copy_to(pair)
        daemon.hang_up("certificate_loaded")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert shown_by(daemon, authority, version=version) == "second"
        pair.cert.write_bytes(authority.issue("stranger").cert.read_bytes())
        daemon.hang_up("certificate_refused")
        (refused,) = daemon.logged("certificate_refused")
        assert refused["level"] == "error"
        assert str(pair.key) in refused["reason"]
        assert "SIGHUP" in refused["remedy"]
        assert shown_by(daemon, authority) == "second"
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(1024).startswith(b"HTTP/1.1 200 ")


def test_the_commands_trust_the_given_authorities(secure: Daemon, authority: Authority):
    """From --ca, or from SSL_CERT_FILE."""
    told = aliciacfg(secure, "--ca", str(authority.file), "--http", secure.url, "get", "voice_router")
    assert told.returncode == 0, told.stderr
    usual = aliciacfg(secure, "--http", secure.url, "list", environ={"SSL_CERT_FILE": str(authority.file)})
    assert len(json.loads(usual.stdout)) == 22


@pytest.mark.parametrize(
    ("url", "ca", "code", "why"),
    [
        ("https://127.0.0.1:{port}", None, 7, "not signed by a trusted authority"),
        ("https://127.0.0.1:{port}", "stranger", 7, "set --ca to the authority's file"),
        ("https://[::ffff:127.0.0.1]:{port}", "authority", 7, "for another name"),
        ("http://127.0.0.1:{port}", None, 4, "use https:// instead of http://"),
        ("https://127.0.0.1:{mqtt}", "authority", 7, "check whether this port serves TLS"),
        ("https://127.0.0.1:{nobody}", "authority", 7, "is the daemon running?"),
        ("https://127.0.0.1:{port}", "missing", 2, "--ca: missing.pem cannot be read"),
    ],
)
def test_the_commands_say_why_there_is_no_answer(
    secure: Daemon, authority: Authority, tmp_path: Path, url: str, ca: str | None, code: int, why: str
):
    """Each message says what to do."""
    files = {"authority": authority.file, "stranger": Authority(tmp_path).file, "missing": "missing.pem"}
    options = ["--ca", str(files[ca])] if ca is not None else []
    named = url.format(port=port_of(secure), mqtt=secure.broker_port, nobody=free_port())
    done = aliciacfg(secure, *options, "--http", named, "get", "voice_router")
    assert done.returncode == code, done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_the_commands_report_an_expired_certificate(make_daemon: Callable[..., Daemon], authority: Authority):
    """Instead of an unreachable daemon."""
    daemon = secured(make_daemon(), authority.issue("expired", expired=True), authority).start()
    done = aliciacfg(daemon, "--ca", str(authority.file), "--http", daemon.url, "get", "voice_router")
    assert done.returncode == 7
    assert "expired" in done.stderr


def test_the_documented_commands_create_a_trusted_certificate(make_daemon: Callable[..., Daemon]):
    """As written in docs/how-to/tls.md; clients that check strictly by RFC 5280 trust it too."""
    text = (ROOT / "docs" / "how-to" / "tls.md").read_text()
    making, _, asking = (block.partition("```")[0] for block in text.split("```sh\n")[1:4])
    daemon = make_daemon()
    subprocess.run(["sh", "-ec", making], cwd=daemon.directory, check=True, capture_output=True)
    daemon.environ |= {"ALICIACFG_TLS_CERT": "tls.crt", "ALICIACFG_TLS_KEY": "tls.key"}
    daemon.start()
    assert (daemon.directory / "tls.key").stat().st_mode & 0o077 == 0
    context = ssl.create_default_context(cafile=daemon.directory / "tls.crt")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    daemon.tls = context
    assert daemon.http("GET", "/health").status == 200
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in asking.strip().splitlines():
        done = subprocess.run(
            ["sh", "-ec", command.replace("8026", str(port_of(daemon)))],
            cwd=daemon.directory,
            env={**daemon.environment(), "PATH": path},
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        assert json.loads(done.stdout)


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[list[str]]:
    """Yield the command prefix that runs a program in a network namespace with a second address."""
    script = f"ip link set lo up && ip address add {ADDRESS}/32 dev lo && echo ready && exec cat"
    path = "/usr/sbin:/sbin:/usr/bin:/bin"
    if missing := [name for name in ("unshare", "nsenter", "ip") if shutil.which(name, path=path) is None]:
        pytest.skip(f"{', '.join(missing)} not found: there are network namespaces on Linux alone")
    # Root of a namespace of users, where it is not root of the machine.
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    holder = subprocess.Popen(
        ["unshare", *as_root, "--net", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": path},
        cwd=tmp_path,
    )
    assert holder.stdout is not None
    assert holder.stderr is not None
    ready = holder.stdout.readline() == b"ready\n"
    if not ready:
        holder.communicate()
        pytest.skip("this user may not make a network namespace")
    entering = [f"--net=/proc/{holder.pid}/ns/net"]
    if as_root:
        entering = [f"--user=/proc/{holder.pid}/ns/user", "--preserve-credentials", *entering]
    yield ["nsenter", *entering]
    holder.communicate()


def fetch(namespace: list[str], url: str, bearer: str, *headers: str) -> dict[str, Any]:
    """Return the answer to a get with curl inside the namespace."""
    sent = [part for header in (f"Authorization: Bearer {bearer}", *headers) for part in ("--header", header)]
    done = subprocess.run(
        [*namespace, "curl", "--silent", "--insecure", "--noproxy", "*", *sent, f"{url}/config/tts_service"],
        capture_output=True,
        timeout=30,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_plaintext_secrets_are_delivered_over_a_network_only_with_tls(
    make_daemon: Callable[..., Daemon], namespace: list[str], authority: Authority, *, tls: bool
):
    """To an address beyond loopback: *** over HTTP although the rules say plaintext, the value over HTTPS."""
    secret = "planted-beyond-2e77"
    environ = {"ALICIACFG_HTTP_HOST": "0.0.0.0", "ALICIACFG_HTTP_ALLOWED_HOSTS": ADDRESS}
    if tls:
        pair = authority.issue("beyond", ADDRESS)
        environ |= {"ALICIACFG_TLS_CERT": str(pair.cert), "ALICIACFG_TLS_KEY": str(pair.key)}
    daemon = make_daemon(environ=environ, before=namespace).keep_services("tts_service")
    (daemon.environments / "access.yaml").write_text("services:\n  tts_service: {secrets: plaintext}\n")
    (daemon.environments / "dev-secrets.yaml").write_text(
        f"services:\n  tts_service:\n    mqtt_config: {{password: {secret}}}\n"
    )
    bearer = token_by_command(daemon, "tts_service")
    daemon.spawn()
    # There is no broker in that network, so it is not READY; HTTP serves all the same.
    (listening,) = wait_until(lambda: daemon.logged("listening"), seconds=4 * SECONDS, why="it listens")
    port = listening["url"].rpartition(":")[2]
    scheme = "https" if tls else "http"
    seen = {
        host: fetch(namespace, f"{scheme}://{host}:{port}", bearer)["config"]["mqtt_config"]["password"]
        for host in (ADDRESS, "127.0.0.1")
    }
    assert seen == {ADDRESS: secret if tls else "***", "127.0.0.1": secret}
    if not tls:
        # A proxy on this machine passes requests of any client on.
        for header in ("X-Forwarded-Proto: https", "Forwarded: for=10.0.0.1", "Via: 1.1 p", "X-Real-IP: 10.0.0.1"):
            answer = fetch(namespace, f"{scheme}://127.0.0.1:{port}", bearer, header)
            assert answer["config"]["mqtt_config"]["password"] == "***", header
    expected = {"http 127.0.0.1", *({f"http {ADDRESS}"} if tls else ())}

    def delivered() -> set[str]:
        entries = json.loads(aliciacfg(daemon, "audit", "--service", "tts_service").stdout)["entries"]
        return {entry["where"] for entry in entries if entry["outcome"] == "secrets_delivered"}

    # Of deliveries the audit is written a little later.
    wait_until(lambda: delivered() >= expected, why="the deliveries are in the audit")
    assert delivered() == expected
