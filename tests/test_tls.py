"""TLS contexts of the daemon and of its clients."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from aliciacfg import tls
from aliciacfg.errors import SettingsError
from certificates import Authority


def test_key_and_certificate_may_share_a_file(authority: Authority, tmp_path: Path):
    """Without a key file the key is read from the certificate's file."""
    pair = authority.issue("shared")
    both = tmp_path / "both.pem"
    both.write_bytes(pair.cert.read_bytes() + pair.key.read_bytes())
    assert tls.ServerCertificate(cert=str(both), key=None, cert_setting="C", key_setting="K").context


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> dict[str, str]:
    """Good files and bad ones, by what is wrong with them."""
    pair, other = authority.issue("good"), authority.issue("other")
    damaged, encrypted, nothing = (tmp_path / name for name in ("damaged.pem", "encrypted.key", "nothing.pem"))
    damaged.write_bytes(pair.cert.read_bytes()[:200] + b"\n-----END CERTIFICATE-----\n")
    nothing.write_text("nothing\n")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
    )
    return {
        "cert": str(pair.cert), "key": str(pair.key), "other": str(other.key), "damaged": str(damaged),
        "encrypted": str(encrypted), "nothing": str(nothing), "missing": str(tmp_path / "missing.pem"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cert", "key", "blamed", "why"),
    [
        ("missing", "key", "missing", "CERT: {} cannot be read: No such file"),
        ("cert", "missing", "missing", "KEY: {} cannot be read: No such file"),
        ("nothing", "key", "nothing", "CERT: {} contains no certificate"),
        ("damaged", "key", "damaged", "CERT: {} is damaged"),
        ("cert", "nothing", "nothing", "KEY: {} contains no private key"),
        ("cert", "other", "other", "KEY: {} is not the key of the certificate"),
        ("cert", "encrypted", "encrypted", "KEY: the key in {} is encrypted"),
        ("cert", "", "cert", "CERT: {} contains no private key"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_refused(
    files: dict[str, str], cert: str, key: str, blamed: str, why: str
):
    """With the setting, the file and the reason."""
    with pytest.raises(SettingsError) as refused:
        tls.ServerCertificate(cert=files[cert], key=files.get(key), cert_setting="CERT", key_setting="KEY")
    assert why.format(files[blamed]) in str(refused.value)


@pytest.mark.parametrize("bad", ["missing", "nothing", "damaged"])
def test_authorities_that_cannot_be_used_are_told(files: dict[str, str], bad: str):
    """By setting and file."""
    with pytest.raises(SettingsError, match=r"^MQTT_TLS_CA: ") as caught:
        tls.client_context(ca=files[bad], ca_setting="MQTT_TLS_CA")
    assert files[bad] in str(caught.value)
