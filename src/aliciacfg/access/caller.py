"""Who asks, and how far that is proven."""

import msgspec

from aliciacfg.model.records import Role


class Caller(msgspec.Struct, frozen=True):
    """Who asks.

    Attributes:
        name: What the transport proved or at least carried; None is anonymous.
        transport: Where the request came in.
        address: The peer's, where there is one.
        private: Nobody but the peer reads along: TLS, or this machine alone.
        proven: The name is proven: by a token, or by a broker whose access list is in force.
        role: Of the token; over the bus there is none.
    """

    name: str | None
    transport: str
    proven: bool = False
    role: Role = "service"
    address: str | None = None
    private: bool = False

    @property
    def where(self) -> str:
        """How it is written into the audit where the request came in."""
        return self.transport if self.address is None else f"{self.transport} {self.address}"

    @property
    def author(self) -> str:
        """How the caller is written into history."""
        return self.name or f"anonymous ({self.transport})"
