"""Certificates for tests, made when they are needed."""

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path

    def copy_to(self, other: "Pair") -> None:
        other.cert.write_bytes(self.cert.read_bytes())
        other.key.write_bytes(self.key.read_bytes())


@dataclass
class Authority:
    """Signs certificates; ``file`` is its own."""

    directory: Path
    ca: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.file = self.directory / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *hosts: str, common_name: str | None = None, expired: bool = False) -> Pair:
        """A certificate for some hosts (default: this one), or for a client of that common name."""
        identities = hosts or (() if common_name else ("127.0.0.1", "localhost"))
        made = self.ca.issue_cert(
            *identities,
            common_name=common_name,
            not_before=_LONG_AGO if expired else None,
            not_after=_LONG_AGO + timedelta(days=9) if expired else None,
        )
        pair = Pair(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        pair.cert.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        made.private_key_pem.write_to_path(pair.key)
        return pair

    def context(self) -> ssl.SSLContext:
        """For a client that believes this authority and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        return context
