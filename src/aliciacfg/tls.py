"""TLS: the certificate that HTTP shows, whom a client believes, and in words why an agreement failed.

What is agreed is what Python's ``ssl.create_default_context`` takes for safe, TLS 1.2 at least.
"""

import re
import ssl
from pathlib import Path

from aliciacfg.errors import SettingsError

# What OpenSSL calls the reasons why a certificate is not believed (X509_V_ERR_…).
_NOT_YET_VALID = 9
_EXPIRED = 10
_NOT_OURS = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})

_WANTS_CERTIFICATE = frozenset({"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE"})
_OURS_UNKNOWN = frozenset({"TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_UNKNOWN"})
_OURS_EXPIRED = frozenset({"SSLV3_ALERT_CERTIFICATE_EXPIRED"})
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
_TOO_OLD = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"})


class ServerCertificate:
    """The certificate a server shows; it can be renewed while the server runs.

    Attributes:
        context: For the listening socket.
    """

    def __init__(self, *, cert: str, key: str | None, cert_setting: str, key_setting: str) -> None:
        """Load it.

        Args:
            cert: A PEM file with the certificate, and what leads from it to its authority.
            key: A PEM file with its private key; None if that stands in ``cert``.
            cert_setting: What the operator calls ``cert``.
            key_setting: The same of ``key``.

        Raises:
            SettingsError: One of the files cannot be used.
        """
        self._cert = cert
        self._key = key
        self._cert_setting = cert_setting
        self._key_setting = key_setting
        self.context = self._newest = self._load()
        # A handshake goes on in the newest context. Loading a bad pair into the first one would take its key away.
        self.context.sni_callback = self._take_newest

    def renew(self) -> None:
        """Read the files again and show what they hold to whoever connects from now on.

        Raises:
            SettingsError: One of the files cannot be used; the certificate of before is shown.
        """
        self._newest = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load_pair(context, self._cert, self._key, self._cert_setting, self._key_setting)
        return context

    def _take_newest(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
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
    """Make a context that believes certificates for the name it connects to.

    Args:
        ca: A PEM file of authorities; None takes the system's, or those of ``SSL_CERT_FILE``.
        cert: A PEM file with the client's own certificate.
        key: A PEM file with its private key; None if that stands in ``cert``.
        ca_setting: What the operator calls ``ca``.
        cert_setting: The same of ``cert``.
        key_setting: The same of ``key``.

    Raises:
        SettingsError: One of the files cannot be used.
    """
    if ca is not None and b"CERTIFICATE-----" not in _read(ca, ca_setting):
        raise SettingsError([f"{ca_setting}: {ca} holds no certificate; name a PEM file of authorities"])
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise SettingsError([f"{ca_setting}: {ca} is damaged ({_reason(error)}); copy it again"]) from error
    except OSError as error:
        # Gone since it was looked at.
        raise SettingsError([f"{ca_setting}: {ca} cannot be read: {error.strerror or error}"]) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        _load_pair(context, cert, key, cert_setting, key_setting)
    elif key is not None:
        raise SettingsError([f"{key_setting} is set without {cert_setting}; set both"])
    return context


def explain(problem: BaseException | str, *, ca_setting: str, cert_setting: str | None = None) -> str | None:
    """Why a client and a server did not agree, and what to do; None if it is not about TLS.

    Args:
        problem: What was raised, or the text of it where a library keeps only that.
        ca_setting: Where the client is told whom to believe.
        cert_setting: Where it is told its own certificate; None if it cannot have one.
    """
    if isinstance(problem, ssl.SSLCertVerificationError):
        return _explain_certificate(problem, ca_setting)
    if isinstance(problem, ConnectionResetError | ssl.SSLEOFError) or "handshake operation timed out" in str(problem):
        return "TLS was not agreed on; look whether it is spoken on this port"
    reason = _reason(problem)
    if reason in _WANTS_CERTIFICATE:
        remedy = f"set {cert_setting} and its key" if cert_setting else "this client cannot have one"
        return f"the other side asks for a client certificate, or for a cipher that is not had here; {remedy}"
    if reason in _OURS_UNKNOWN:
        return f"the other side does not trust the authority of {cert_setting}; have it signed by one that it trusts"
    if reason in _OURS_EXPIRED:
        return f"the certificate of {cert_setting} has expired; renew it"
    if reason in _NO_TLS:
        return "what answers there speaks no TLS; look at the port"
    if reason in _TOO_OLD:
        return "the two sides have no version of TLS in common; 1.2 and later are spoken here"
    return f"TLS failed ({reason})" if reason else None


def _explain_certificate(error: ssl.SSLCertVerificationError, ca_setting: str) -> str:
    told = error.verify_message.rstrip(".")
    if error.verify_code == _EXPIRED:
        return "its certificate has expired; renew it there, or mend the clock here"
    if error.verify_code == _NOT_YET_VALID:
        return "its certificate is not valid yet; mend the clock here, or there"
    if error.verify_code in _OTHER_NAME:
        return f"its certificate is for another name ({told}); connect by one that it holds, or issue it for this one"
    if error.verify_code in _NOT_OURS:
        return f"its certificate is signed by nobody trusted here ({told}); name its authority's file with {ca_setting}"
    return f"its certificate is not valid ({told})"


def _load_pair(context: ssl.SSLContext, cert: str, key: str | None, cert_setting: str, key_setting: str) -> None:
    place, place_setting = (cert, cert_setting) if key is None else (key, key_setting)
    if b"-----BEGIN CERTIFICATE-----" not in _read(cert, cert_setting):
        raise SettingsError([f"{cert_setting}: {cert} holds no certificate; name a PEM file"])
    found = _read(place, place_setting)
    if b"PRIVATE KEY-----" not in found:
        more = f", or set {key_setting}" if key is None else ""
        raise SettingsError([f"{place_setting}: {place} holds no private key; name a PEM file that does{more}"])
    if b"ENCRYPTED" in found:
        raise SettingsError([f"{place_setting}: the key in {place} is encrypted; store it decrypted, with mode 0600"])
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = (
                f"{place_setting}: {place} is not the key of the certificate in {cert} ({cert_setting}); name the one "
                "that was made with it"
            )
        elif _is_damaged(cert):
            message = f"{cert_setting}: {cert} is damaged ({_reason(error)}); copy it again"
        else:
            message = f"{place_setting}: {place} cannot be used ({_reason(error)}); copy it again"
        raise SettingsError([message]) from error
    except OSError as error:
        # Gone since they were looked at.
        message = f"{cert_setting} and {key_setting}: {cert} or {place} cannot be read: {error.strerror or error}"
        raise SettingsError([message]) from error


def _is_damaged(cert: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except OSError:
        return True
    return False


def _read(file: str, setting: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError([f"{setting}: {file} cannot be read: {error.strerror or error}"]) from error


def _reason(problem: BaseException | str) -> str | None:
    """OpenSSL's name of what went wrong."""
    if isinstance(problem, ssl.SSLError) and problem.reason:
        return problem.reason
    found = re.search(r"\[(?:SSL|X509|PEM)(?:: (\w+))?\] *([^(]*)", str(problem))
    return None if found is None else found[1] or found[2].strip()
