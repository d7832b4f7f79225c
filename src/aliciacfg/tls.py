"""TLS: server certificates that can be renewed, client contexts, and explanations of failed handshakes.

Versions and ciphers are those of Python's ``ssl.create_default_context``, with TLS 1.2 as the minimum.
"""

import re
import ssl
from pathlib import Path

from aliciacfg.errors import SettingsError
from aliciacfg.file_errors import reason, unreadable

# OpenSSL's codes of why a certificate is not valid (X509_V_ERR_…).
_NOT_YET_VALID = 9
_EXPIRED = 10
_UNTRUSTED = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})

# asyncio aborts a handshake that takes too long.
_NOT_COMPLETED = (ConnectionResetError, ConnectionAbortedError, ssl.SSLEOFError)
# OpenSSL's names of why a handshake failed. An alert comes from the other side and is about this side's certificate.
_CERTIFICATE_REQUIRED = frozenset({"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE"})
_OWN_UNTRUSTED = frozenset({"TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_UNKNOWN"})
_OWN_EXPIRED = frozenset({"SSLV3_ALERT_CERTIFICATE_EXPIRED"})
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
_NO_COMMON_VERSION = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"})


class ServerCertificate:
    """The certificate of a server, which can be renewed while the server runs.

    Attributes:
        context: The context for the listening socket.
    """

    def __init__(self, *, cert: str, key: str | None, cert_setting: str, key_setting: str) -> None:
        """Load the certificate and its key.

        Args:
            cert: A PEM file with the certificate, followed by the intermediate certificates.
            key: A PEM file with the private key; None if ``cert`` contains it.
            cert_setting: The name of the setting that ``cert`` comes from, for errors.
            key_setting: The same for ``key``.

        Raises:
            SettingsError: A file cannot be used.
        """
        self._cert = cert
        self._key = key
        self._cert_setting = cert_setting
        self._key_setting = key_setting
        self.context = self._newest = self._load()
        # Every handshake continues in the newest context. The listening context itself cannot be reloaded: a pair that
        # does not match would leave it without a key.
        self.context.sni_callback = self._use_newest

    def renew(self) -> None:
        """Read the files again; new connections get the certificate that they contain now.

        Raises:
            SettingsError: A file cannot be used; the previous certificate stays in use.
        """
        self._newest = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load_pair(context, self._cert, self._key, self._cert_setting, self._key_setting)
        return context

    def _use_newest(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest


def client_context(
    *,
    ca: str | None,
    cert: str | None = None,
    key: str | None = None,
    ca_setting: str,
    cert_setting: str = "",
    key_setting: str = "",
) -> ssl.SSLContext:
    """Return a context that verifies the server's certificate and its name.

    Args:
        ca: A PEM file of trusted certificate authorities; None for those of the system, or of ``SSL_CERT_FILE``.
        cert: A PEM file with the client's own certificate.
        key: A PEM file with its private key; None if ``cert`` contains it.
        ca_setting: The name of the setting that ``ca`` comes from, for errors.
        cert_setting: The same for ``cert``.
        key_setting: The same for ``key``.

    Raises:
        SettingsError: A file cannot be used.
    """
    if ca is not None and b"CERTIFICATE-----" not in _read(ca, ca_setting):
        raise SettingsError([f"{ca_setting}: {ca} contains no certificate; specify a PEM file of authorities"])
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise SettingsError([f"{ca_setting}: {ca} is damaged ({_openssl_reason(error)}); copy it again"]) from error
    except OSError as error:
        # The file was removed after it was read above.
        raise SettingsError([f"{ca_setting}: {unreadable(Path(ca or ''), error)}"]) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        _load_pair(context, cert, key, cert_setting, key_setting)
    elif key is not None:
        raise SettingsError([f"{key_setting} is set without {cert_setting}; set both"])
    return context


def explain(problem: BaseException | str, *, ca_setting: str, cert_setting: str | None = None) -> str | None:
    """Return why a handshake failed and what to do, for the client's user; None if the problem is not about TLS.

    Args:
        problem: The exception, or its text where a library keeps only that.
        ca_setting: The name of the setting for trusted authorities.
        cert_setting: The name of the setting for the client's own certificate; None if the client supports none.
    """
    if isinstance(problem, ssl.SSLCertVerificationError):
        return _explain_certificate(problem, ca_setting)
    if isinstance(problem, _NOT_COMPLETED) or "handshake operation timed out" in str(problem):
        return "the TLS handshake was not completed; check whether this port serves TLS"
    reason = _openssl_reason(problem)
    if reason in _CERTIFICATE_REQUIRED:
        remedy = f"set {cert_setting} and its key" if cert_setting else "this client does not support certificates"
        return f"the server requires a client certificate, or a cipher that is not available here; {remedy}"
    if reason in _OWN_UNTRUSTED:
        return f"the server does not trust the certificate of {cert_setting}; use one of an authority that it trusts"
    if reason in _OWN_EXPIRED:
        return f"the certificate of {cert_setting} has expired; renew it"
    if reason in _NO_TLS:
        return "the server on this port does not speak TLS; check the port"
    if reason in _NO_COMMON_VERSION:
        return "client and server have no version of TLS in common; this client speaks TLS 1.2 and later"
    return f"TLS failed ({reason})" if reason else None


def _explain_certificate(error: ssl.SSLCertVerificationError, ca_setting: str) -> str:
    detail = error.verify_message.rstrip(".")
    if error.verify_code == _EXPIRED:
        return "its certificate has expired; renew it there, or correct the clock here"
    if error.verify_code == _NOT_YET_VALID:
        return "its certificate is not valid yet; correct the clock here or there"
    if error.verify_code in _OTHER_NAME:
        return f"its certificate is for another name ({detail}); connect by a name in it, or issue one for this name"
    if error.verify_code in _UNTRUSTED:
        return (
            f"its certificate is not signed by a trusted authority ({detail}); set {ca_setting} to the authority's file"
        )
    return f"its certificate is not valid ({detail})"


def _load_pair(context: ssl.SSLContext, cert: str, key: str | None, cert_setting: str, key_setting: str) -> None:
    """Load a certificate and its key into a context; errors name the file and the setting at fault."""
    key_file, key_file_setting = (cert, cert_setting) if key is None else (key, key_setting)
    if b"-----BEGIN CERTIFICATE-----" not in _read(cert, cert_setting):
        raise SettingsError([f"{cert_setting}: {cert} contains no certificate; specify a PEM file"])
    content = _read(key_file, key_file_setting)
    if b"PRIVATE KEY-----" not in content:
        remedy = f", or set {key_setting}" if key is None else ""
        raise SettingsError(
            [f"{key_file_setting}: {key_file} contains no private key; specify a PEM file that does{remedy}"]
        )
    if b"ENCRYPTED" in content:
        raise SettingsError(
            [f"{key_file_setting}: the key in {key_file} is encrypted; store it decrypted, with mode 0600"]
        )
    try:
        # Without a password argument, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = (
                f"{key_file_setting}: {key_file} is not the key of the certificate in {cert} ({cert_setting}); specify "
                "the key that belongs to it"
            )
        elif _is_damaged(cert):
            message = f"{cert_setting}: {cert} is damaged ({_openssl_reason(error)}); copy it again"
        else:
            message = f"{key_file_setting}: {key_file} cannot be used ({_openssl_reason(error)}); copy it again"
        raise SettingsError([message]) from error
    except OSError as error:
        # A file was removed after it was read above.
        message = f"{cert_setting} and {key_setting}: {cert} or {key_file} cannot be read: {reason(error)}"
        raise SettingsError([message]) from error


def _is_damaged(cert: str) -> bool:
    """Return whether OpenSSL cannot parse a certificate."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except OSError:
        return True
    return False


def _read(file: str, setting: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError([f"{setting}: {unreadable(Path(file), error)}"]) from error


def _openssl_reason(problem: BaseException | str) -> str | None:
    """Return OpenSSL's name of a problem, from the exception or from its text."""
    if isinstance(problem, ssl.SSLError) and problem.reason:
        return problem.reason
    found = re.search(r"\[(?:SSL|X509|PEM)(?:: (\w+))?\] *([^(]*)", str(problem))
    return None if found is None else found[1] or found[2].strip()
