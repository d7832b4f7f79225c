"""The caller of an operation, and how far its name is proven."""

import msgspec

from aliciacfg.model.records import Role

BUS = "mqtt"
"""The transport of requests that any daemon of a home may get."""

HOME_ASSISTANT = "home_assistant"
"""The caller of every command of Home Assistant."""

Account = tuple[str, bool, str | None]
"""The key by which limits count callers: transport, whether the name is proven, and the name or else the address."""


class Caller(msgspec.Struct, frozen=True):
    """The caller of an operation.

    Attributes:
        name: The name that the request carries, proven or not; None for an anonymous caller.
        transport: The transport of the request: ``mqtt``, ``http``, ``local`` and so on.
        proven: Whether the name is proven: by a token, or by a broker that enforces the access list.
        role: The role of the token; over MQTT always ``service``.
        address: The address of the peer, if the transport has one.
        token_id: The public part of the token that proves the name; None if another thing does, or nothing.
        private: Whether only the peer can read the connection: it uses TLS, or does not leave this machine.
        answer_key: What the answer to its present request is kept under (``records.Answer``); None if it is not kept.
    """

    name: str | None
    transport: str
    proven: bool = False
    role: Role = "service"
    address: str | None = None
    private: bool = False
    token_id: str | None = None
    answer_key: tuple[str, str] | None = None

    @property
    def where(self) -> str:
        """The origin of the request, as the audit log has it."""
        return self.transport if self.address is None else f"{self.transport} {self.address}"

    @property
    def account(self) -> Account:
        """The account that the caller's share of a limited resource is counted on.

        A name that is only claimed has another account than the same name when it is proven.
        """
        return self.transport, self.proven, self.name or self.address

    @property
    def author(self) -> str:
        """The name of the caller, as the history has it."""
        return self.name or f"anonymous ({self.transport})"
