"""TLS contexts of the daemon and of its clients."""

from pathlib import Path

from aliciacfg import tls
from certificates import Authority


def test_key_and_certificate_may_share_a_file(authority: Authority, tmp_path: Path):
    """Without a key of its own the certificate's file is looked at."""
    pair = authority.issue("shared")
    both = tmp_path / "both.pem"
    both.write_bytes(pair.cert.read_bytes() + pair.key.read_bytes())
    assert tls.ServerCertificate(cert=str(both), key=None, cert_setting="C", key_setting="K").context
