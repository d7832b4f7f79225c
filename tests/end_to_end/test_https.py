"""HTTPS: what the daemon shows, what it refuses at start and at SIGHUP, and what the commands believe."""

import contextlib
import json
import os
import pty
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from aliciacfg import tls
from aliciacfg.errors import SettingsError
from certificates import Authority, Pair
from support import ROOT, SECONDS, Broker, Daemon, free_port, wait_until

TAKING_THE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def secured(daemon: Daemon, pair: Pair, authority: Authority) -> Daemon:
    """Make a daemon that is not started yet serve HTTPS."""
    daemon.environ |= {"ALICIACFG_TLS_CERT": str(pair.cert), "ALICIACFG_TLS_KEY": str(pair.key)}
    daemon.tls = authority.context()
    return daemon


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Daemon]:
    """A READY daemon that serves HTTPS, for tests that leave nothing behind."""
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
    """The common name of the certificate that a new connection sees."""
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


def aliciacfg(daemon: Daemon, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aliciacfg", *arguments],
        cwd=daemon.directory,
        env={**daemon.environment(), **environ},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_with_a_certificate_it_is_https(secure: Daemon):
    """READY says so, and reads and writes work as they do without."""
    assert secure.url.startswith("https://127.0.0.1:")
    first = secure.http("GET", "/config/ha_bridge")
    written = secure.http(
        "PATCH", "/config/ha_bridge", {"limits": {"n": 1}}, headers={"If-Match": first.headers["ETag"]}
    )
    assert written.status == 200
    assert secure.http("GET", "/config/ha_bridge").headers["ETag"] == written.headers["ETag"]


def test_whoever_speaks_no_tls_learns_nothing(secure: Daemon):
    """Plain HTTP on its port is ended without an answer; others are served on."""
    with socket.create_connection(("127.0.0.1", port_of(secure)), SECONDS) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        found = b""
        with contextlib.suppress(ConnectionResetError):
            found = plain.recv(65536)
    assert b"HTTP" not in found
    assert secure.http("GET", "/health").status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(secure: Daemon, authority: Authority, version: ssl.TLSVersion):
    """Each agrees on what it is told to."""
    assert shown_by(secure, authority, version=version) == "secure"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_1_1_is_not_spoken(secure: Daemon, authority: Authority):
    """Not even to a client that knows nothing newer."""
    context = authority.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", port_of(secure)), SECONDS) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_web_page_of_another_site_cannot_drive_it_either(secure: Daemon):
    """Its own origin is the one with https; the same with http is another."""
    path, own = "/config/voice_router", secure.url
    assert secure.http("GET", path, headers={"Origin": own}).status == 200
    for headers in (
        {"Origin": own.replace("https", "http")},
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
    ):
        assert secure.http("GET", path, headers=headers).status == 403


def test_without_its_authority_nobody_believes_it(secure: Daemon):
    """It is not the certificate of an authority that a machine believes anyway."""
    secure.tls, believed = None, secure.tls
    try:
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            secure.http("GET", "/health")
    finally:
        secure.tls = believed


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> dict[str, str]:
    """Good files and bad ones, by what is wrong with them."""
    pair, other = authority.issue("good"), authority.issue("other")
    damaged, encrypted, nothing = (tmp_path / name for name in ("damaged.pem", "encrypted.key", "nothing.pem"))
    damaged.write_bytes(pair.cert.read_bytes()[:200] + b"\n-----END CERTIFICATE-----\n")
    nothing.write_text("nothing\n")
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", str(pair.key), "-out", str(encrypted), "-passout", "pass:word"],
        check=True,
    )
    return {
        "cert": str(pair.cert), "key": str(pair.key), "other": str(other.key), "damaged": str(damaged),
        "encrypted": str(encrypted), "nothing": str(nothing), "missing": str(tmp_path / "missing.pem"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cert", "key", "blamed", "why"),
    [
        ("missing", "key", "missing", "ALICIACFG_TLS_CERT: {} cannot be read: No such file"),
        ("cert", "missing", "missing", "ALICIACFG_TLS_KEY: {} cannot be read: No such file"),
        ("nothing", "key", "nothing", "ALICIACFG_TLS_CERT: {} holds no certificate"),
        ("damaged", "key", "damaged", "ALICIACFG_TLS_CERT: {} is damaged"),
        ("cert", "nothing", "nothing", "ALICIACFG_TLS_KEY: {} holds no private key"),
        ("cert", "other", "other", "ALICIACFG_TLS_KEY: {} is not the key of the certificate"),
        ("cert", "encrypted", "encrypted", "ALICIACFG_TLS_KEY: the key in {} is encrypted"),
        ("cert", "", "cert", "ALICIACFG_TLS_CERT: {} holds no private key"),
        ("", "key", "", "ALICIACFG_TLS_KEY is set without ALICIACFG_TLS_CERT"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_told_at_start(
    make_daemon: Callable[..., Daemon], files: dict[str, str], cert: str, key: str, blamed: str, why: str
):
    """By setting and file, with exit code 8."""
    daemon = make_daemon(
        environ={"ALICIACFG_TLS_CERT": files.get(cert, ""), "ALICIACFG_TLS_KEY": files.get(key, "")},
        broker_port=free_port(),
    )
    assert daemon.spawn().wait_exit() == 8
    told = daemon.log.read_text()
    assert why.format(files.get(blamed)) in told
    assert "Traceback" not in told


def test_key_and_certificate_may_share_a_file(authority: Authority, tmp_path: Path):
    """Without a key of its own the certificate's file is looked at."""
    pair = authority.issue("shared")
    both = tmp_path / "both.pem"
    both.write_bytes(pair.cert.read_bytes() + pair.key.read_bytes())
    assert tls.ServerCertificate(cert=str(both), key=None, cert_setting="C", key_setting="K").context


@pytest.mark.parametrize("bad", ["missing", "nothing", "damaged"])
def test_authorities_that_cannot_be_used_are_told(files: dict[str, str], bad: str):
    """By setting and file."""
    with pytest.raises(SettingsError, match=r"^MQTT_TLS_CA: ") as caught:
        tls.client_context(ca=files[bad], ca_setting="MQTT_TLS_CA")
    assert files[bad] in str(caught.value)


def hang_up(daemon: Daemon, event: str) -> None:
    """Send SIGHUP and wait for what is logged of it."""
    before = len(daemon.logged(event))
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(daemon.logged(event)) > before, why=event)


def test_sighup_renews_the_certificate(make_daemon: Callable[..., Daemon], authority: Authority):
    """New connections see the new one, open ones go on; a broken one is refused and the old one still shown."""
    pair = authority.issue("renewed", "127.0.0.1", "localhost", common_name="first")
    daemon = secured(make_daemon(), pair, authority).start()
    with (
        socket.create_connection(("127.0.0.1", port_of(daemon)), SECONDS) as plain,
        authority.context().wrap_socket(plain, server_hostname="localhost") as kept,
    ):
        assert shown_by(daemon, authority) == "first"
        authority.issue("next", "127.0.0.1", "localhost", common_name="second").copy_to(pair)
        hang_up(daemon, "certificate_taken")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert shown_by(daemon, authority, version=version) == "second"
        pair.cert.write_bytes(authority.issue("stranger").cert.read_bytes())
        hang_up(daemon, "certificate_refused")
        (refused,) = daemon.logged("certificate_refused")
        assert refused["level"] == "error"
        assert str(pair.key) in refused["reason"]
        assert "SIGHUP" in refused["remedy"]
        assert shown_by(daemon, authority) == "second"
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(1024).startswith(b"HTTP/1.1 200 ")


def test_sighup_reads_the_environment_files_again(daemon: Daemon):
    """Without a certificate too; what is wrong with them is told once more."""
    hang_up(daemon, "files_taken")
    (daemon.environments / "dev.yaml").write_text("services: [\n")
    hang_up(daemon, "files_refused")
    assert daemon.config("voice_router")["revision"] == 1


def test_a_terminal_that_is_closed_ends_the_daemon(make_daemon: Callable[..., Daemon]):
    """That SIGHUP asks for no reload: nobody is left to end it."""
    daemon = make_daemon()
    ours, theirs = pty.openpty()

    program = [sys.executable, "-m", "aliciacfg", "serve"]
    with daemon.log.open("a") as log:
        daemon.process = subprocess.Popen(
            [sys.executable, "-c", TAKING_THE_TERMINAL, *program],
            cwd=daemon.directory,
            env=daemon.environment(),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    os.close(theirs)
    daemon.wait_ready()
    os.close(ours)
    assert daemon.wait_exit() == 0
    assert daemon.logged("stopped")


def test_the_commands_believe_whom_they_are_told_to(secure: Daemon, authority: Authority):
    """--ca, or SSL_CERT_FILE as everywhere."""
    told = aliciacfg(secure, "--ca", str(authority.file), "--http", secure.url, "get", "voice_router")
    assert told.returncode == 0, told.stderr
    usual = aliciacfg(secure, "--http", secure.url, "list", SSL_CERT_FILE=str(authority.file))
    assert len(json.loads(usual.stdout)) == 22


@pytest.mark.parametrize(
    ("url", "ca", "code", "why"),
    [
        ("https://127.0.0.1:{port}", None, 7, "signed by nobody trusted here"),
        ("https://127.0.0.1:{port}", "stranger", 7, "name its authority's file with --ca"),
        ("https://[::ffff:127.0.0.1]:{port}", "authority", 7, "for another name"),
        ("http://127.0.0.1:{port}", None, 7, "if it serves HTTPS, ask https://"),
        ("https://127.0.0.1:{mqtt}", "authority", 7, "look whether it is spoken on this port"),
        ("https://127.0.0.1:{nobody}", "authority", 7, "is the daemon running?"),
        ("https://127.0.0.1:{port}", "missing", 2, "--ca: missing.pem cannot be read"),
    ],
)
def test_the_commands_tell_why_there_is_no_answer(
    secure: Daemon, authority: Authority, tmp_path: Path, url: str, ca: str | None, code: int, why: str
):
    """Each with what to do."""
    files = {"authority": authority.file, "stranger": Authority(tmp_path).file, "missing": "missing.pem"}
    options = ["--ca", str(files[ca])] if ca is not None else []
    named = url.format(port=port_of(secure), mqtt=secure.broker_port, nobody=free_port())
    done = aliciacfg(secure, *options, "--http", named, "get", "voice_router")
    assert done.returncode == code, done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_an_expired_certificate_is_told_to_whoever_asks(make_daemon: Callable[..., Daemon], authority: Authority):
    """The command says that it has expired, not that the daemon is away."""
    daemon = secured(make_daemon(), authority.issue("expired", expired=True), authority).start()
    done = aliciacfg(daemon, "--ca", str(authority.file), "--http", daemon.url, "get", "voice_router")
    assert done.returncode == 7
    assert "expired" in done.stderr


def test_the_documented_commands_make_a_certificate_that_is_believed(make_daemon: Callable[..., Daemon]):
    """As they stand in docs/operation.md, also by clients that hold certificates to RFC 5280."""
    text = (ROOT / "docs" / "operation.md").read_text().partition("## TLS")[2]
    making, asking = (block.partition("```")[0] for block in text.split("```sh\n")[1:3])
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
