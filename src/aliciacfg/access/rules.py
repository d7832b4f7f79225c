"""Who may do what: the rules of ``environments/access.yaml``, and the one decision that everything asks.

    groups:
      voice: [stt_service, tts_service]
    services:
      ai_service:
        read: {allowed_services: [voice_router], allowed_groups: [voice]}
        write: {allowed_services: [personality_system]}
        secrets: plaintext
    admins: [operator]
    users: [dashboard]

A service may always read its own configuration, and whoever may write one may read it: the answer to a write shows
it. ``secrets: plaintext`` gives a service its own secrets in the open, over HTTP where nobody reads along (TLS, or this
machine); otherwise they are sealed to the service's key, or hidden. Administrators may do everything. ``users`` are
names that ask and are no services of the environment files; what they may do is said by the other sections. Where
there is neither a rule nor a token, everything is open; with either, what is not allowed is forbidden.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from aliciacfg.access.caller import Caller
from aliciacfg.errors import Forbidden, Unauthorized
from aliciacfg.model.records import Role

FILE = "environments/access.yaml"

Need = Literal["nothing", "read", "write", "read_any", "write_any", "own", "admin"]
"""What an operation asks of its caller.

``read`` and ``write`` are about the service concerned; in an operation about everything, about all services.
``read_any`` and ``write_any`` are for operations on several services: as a whole they are for whoever may read or
write at least one, and each service they concern is decided by itself. ``own`` is for the service itself, once it has
proven who it is, and for administrators.
"""

METRICS_NEED: Need = "read"
"""What a transport asks of a caller who reads the metrics, which are no operation; they are about all services."""

_READS: frozenset[Need] = frozenset({"read", "read_any"})
_READERS: frozenset[Role] = frozenset({"reader", "writer", "admin"})
_WRITERS: frozenset[Role] = frozenset({"writer", "admin"})


class Decision(msgspec.Struct, frozen=True):
    """Whether a caller may do something.

    Attributes:
        allowed: Go on.
        secrets: The service's secrets may be delivered as its settings say; otherwise each shows as ``***``.
        reason: Why not, and what to do; for the caller.
        anonymous: It is refused because nobody, or nobody proven, asks.
    """

    allowed: bool
    secrets: bool = False
    reason: str = ""
    anonymous: bool = False


_OPEN = Decision(allowed=True, secrets=True)
_ALLOWED = Decision(allowed=True)


class Grants(msgspec.Struct, frozen=True):
    """Who may read and who may write one service, besides itself and administrators; groups are resolved."""

    readers: frozenset[str] = frozenset()
    writers: frozenset[str] = frozenset()


NOBODY = Grants()


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The rules as they are in force.

    Attributes:
        services: Every service of the environment files.
        admins: Names that may do everything.
        users: Names that ask and are no services.
        plaintext: Services that get their own secrets in the open, where nobody reads along.
        enforced: There are rules or tokens; otherwise everything is open.
    """

    services: Mapping[str, Grants]
    admins: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    plaintext: frozenset[str] = frozenset()
    enforced: bool

    @property
    def names(self) -> list[str]:
        """Everybody the rules know, sorted."""
        return sorted({*self.services, *self.admins, *self.users})

    def decide(self, caller: Caller, need: Need, service: str | None = None, *, operation: str) -> Decision:
        """Decide whether a caller is allowed to do something.

        Args:
            caller: Who asks.
            need: What the operation asks of its caller.
            service: The service concerned; None for an operation about everything as a whole. ``list`` and
                ``batch`` are decided as a whole and then for each service.
            operation: The operation's name, for the reason of a refusal only.
        """
        if not self.enforced:
            if need == "own" and not caller.proven:
                reason = (
                    f"{operation} is for {service} itself and for administrators, and nothing proves who asks; make a "
                    "token with `aliciacfg token create`, or use the command line where the daemon runs."
                )
                return Decision(allowed=False, reason=reason, anonymous=True)
            return _OPEN
        if need == "nothing":
            return _ALLOWED
        if caller.name is None:
            reason = f"{operation} needs to know who asks: send a token, or ask under a name of your own."
            return Decision(allowed=False, reason=reason, anonymous=True)
        if not caller.proven and need not in _READS:
            return Decision(
                allowed=False,
                reason=f"Nothing proves that {caller.name} asks, so only reading is possible: let the broker enforce "
                "the access list that `aliciacfg acl` prints, or send a token.",
                anonymous=True,
            )
        if not self._satisfies(need, caller, service):
            return Decision(allowed=False, reason=_reason(need, caller.name, operation, service))
        # Without a proof the name is a mere claim, so what is read shows no secret.
        return Decision(allowed=True, secrets=caller.proven and caller.name == service)

    def allows(self, caller: Caller, need: Need, service: str | None = None) -> bool:
        """Return whether a caller is allowed to do something; arguments as for ``decide``."""
        return self.decide(caller, need, service, operation="").allowed

    def check(self, caller: Caller, need: Need, service: str | None = None, *, operation: str) -> Decision:
        """Raise an error if a caller is not allowed to do something; arguments as for ``decide``.

        Raises:
            Unauthorized: The caller has no name, or a name that nothing proves.
            Forbidden: The caller is not allowed to do this.
        """
        decision = self.decide(caller, need, service, operation=operation)
        if decision.allowed:
            return decision
        raise Unauthorized(decision.reason) if decision.anonymous else Forbidden(decision.reason)

    def speaks_for(self, caller: Caller, service: str) -> bool:
        """Whether the caller may say as whom a service connects: whoever sets its password can log in as it."""
        return not self.enforced or self.administers(caller) or (caller.proven and caller.name == service)

    def is_person(self, name: str) -> bool:
        """Whether a name is one of those that ask and are no services, so that none may come to be under it."""
        return self.enforced and name not in self.services and name in self.admins | self.users

    def administers(self, caller: Caller) -> bool:
        """Whether the caller is a proven administrator; where everything is open, nobody is."""
        return caller.proven and (caller.role == "admin" or caller.name in self.admins)

    def _satisfies(self, need: Need, caller: Caller, service: str | None) -> bool:
        role: Role = caller.role if caller.proven else "service"
        name = caller.name
        if role == "admin" or name in self.admins:
            return True
        match need:
            case "read":
                return role in _READERS or (service is not None and self._reads(name, service))
            case "write":
                return role in _WRITERS or (service is not None and self._writes(name, service))
            case "read_any":
                wanted = self.services if service is None else (service,)
                return role in _READERS or any(self._reads(name, each) for each in wanted)
            case "write_any":
                wanted = self.services if service is None else (service,)
                return role in _WRITERS or any(self._writes(name, each) for each in wanted)
            case "own":
                return service is not None and name == service
            case "admin":
                return False
            case "nothing":
                return True

    def _reads(self, name: str | None, service: str) -> bool:
        return name == service or name in self.services.get(service, NOBODY).readers

    def _writes(self, name: str | None, service: str) -> bool:
        return name in self.services.get(service, NOBODY).writers


def without_rules(services: Iterable[str], *, tokens: bool) -> Access:
    """What holds where there is no ``access.yaml``.

    Args:
        services: Those of the environment files.
        tokens: There is at least one token, so that nothing is open any more.
    """
    return Access(services=dict.fromkeys(services, NOBODY), enforced=tokens)


def _reason(need: Need, name: str, operation: str, service: str | None) -> str:
    """Why a known caller may not, and who can change that."""
    right = need.removesuffix("_any")
    if need == "own":
        return f"{operation} of {service} is for {service} itself and for administrators."
    if need != "admin" and service is not None:
        where = f"services.{service}.{right} in {FILE}"
        return f"{name} may not {right} {service}; an administrator can allow it under {where}."
    role = {"read": "reader", "write": "writer"}.get(right, "admin")
    some = f"a service that {name} may {right}, " if need.endswith("_any") else ""
    return f"{operation} needs {some}a name under admins in {FILE}, or a token with the role {role}."
