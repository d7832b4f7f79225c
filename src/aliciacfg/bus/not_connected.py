"""Why there is no connection to the broker."""

from typing import Literal

from aliciacfg import tls
from aliciacfg.bus.address import BrokerAddress

UNSUPPORTED_PROTOCOL = frozenset({132, 1})
"""Reason codes of a CONNACK where the protocol is not supported: MQTT 5 §3.2.2.2, MQTT 3.1.1 §3.2.2.3."""

NOT_LET_IN = frozenset({134, 135, 4, 5})
"""Bad user name or password, not authorized: in the same sections."""

Reason = Literal["refused", "ended", "timeout", "failed"]


class NotConnected(Exception):
    """There is no connection; the text is the library's.

    Attributes:
        reason: ``refused`` by a CONNACK, ``ended`` by the broker before it answered CONNECT, ``timeout``, or
            ``failed`` below MQTT.
        code: The reason code of the CONNACK; None where there was none.
        cause: The OSError below, or the text of what happened.
    """

    def __init__(
        self,
        reason: Reason,
        text: str,
        *,
        code: int | None = None,
        cause: OSError | str = "",
    ) -> None:
        super().__init__(text)
        self.reason: Reason = reason
        self.code = code
        self.cause = cause


def explain(problem: NotConnected, address: BrokerAddress) -> str:
    """Return why there is no connection, and what to do."""
    if explained := tls_problem(problem, address):
        return explained
    if problem.reason == "ended":
        hint = "" if address.has_tls else "; is this its port? If it speaks TLS there, set MQTT_TLS_CA"
        return f"the broker ended the connection without an answer{hint}"
    if problem.code in NOT_LET_IN:
        return f"{problem}; check MQTT_USERNAME and MQTT_PASSWORD"
    return str(problem)


def tls_problem(problem: NotConnected, address: BrokerAddress) -> str | None:
    """Return what TLS has to do with the problem, and what to do; None if nothing."""
    if not address.has_tls:
        return None
    return tls.explain(problem.cause, ca_setting="MQTT_TLS_CA", cert_setting="MQTT_TLS_CERT")
