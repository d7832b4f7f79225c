"""Access rules, as ``environments/access.yaml`` defines them, and the decision that all transports use.

    groups:
      voice: [stt_service, tts_service]
    services:
      ai_service:
        read: {allowed_services: [voice_router], allowed_groups: [voice]}
        write: {allowed_services: [personality_system]}
        secrets: plaintext
    admins: [operator]
    users: [dashboard]

A service is allowed to read its own configuration. Permission to write includes permission to read, because the answer
to a write contains the configuration. With ``secrets: plaintext`` a service receives its own secrets in plain text over
private HTTP connections (TLS, or from the same machine); otherwise they are sealed to the service's key, or redacted.
Administrators are allowed to do everything. ``users`` are callers that are not services of the environment files; the
other sections grant them permissions. Without rules and tokens everything is allowed; with rules or tokens, everything
that is not allowed is forbidden.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Literal

import msgspec

from aliciacfg.access.caller import Caller
from aliciacfg.errors import Forbidden, Unauthorized
from aliciacfg.model.records import Role
from aliciacfg.model.sorted_names import SortedNames

FILE = "environments/access.yaml"

Need = Literal["nothing", "read", "write", "read_any", "write_any", "own", "metrics", "admin"]
"""The permission that an operation needs.

- ``nothing``: every caller is allowed.
- ``read``, ``write``: permission for the service concerned; in an operation about everything, for all services.
- ``read_any``, ``write_any``: permission for at least one service, in operations on several services; each service is
  then decided on its own with ``read`` or ``write``.
- ``own``: the caller is the service itself, proven, or an administrator.
- ``metrics``: the caller has a token with the role ``metrics``, or permission to read all services.
- ``admin``: the caller is an administrator.
"""

METRICS_NEED: Need = "metrics"
"""The need for reading the metrics, which are not an operation."""

_READS: frozenset[Need] = frozenset({"read", "read_any", "metrics"})
_READERS: frozenset[Role] = frozenset({"reader", "writer", "admin"})
_WRITERS: frozenset[Role] = frozenset({"writer", "admin"})


class Decision(msgspec.Struct, frozen=True):
    """The decision on a request.

    Attributes:
        allowed: Whether the caller is allowed to do it.
        secrets: Whether the caller may receive the service's secrets in plain text, if the rules of the service say so.
        reason: The reason of a refusal and what to do, for the caller.
        anonymous: Whether it is refused because the caller is anonymous or its name is not proven.
    """

    allowed: bool
    secrets: bool = False
    reason: str = ""
    anonymous: bool = False


_OPEN = Decision(allowed=True, secrets=True)
_ALLOWED = Decision(allowed=True)


class Grants(msgspec.Struct, frozen=True):
    """The permissions for one service, besides those of itself and of administrators; groups are resolved.

    Attributes:
        readers: The callers that are allowed to read it.
        writers: The callers that are allowed to write it.
    """

    readers: frozenset[str] = frozenset()
    writers: frozenset[str] = frozenset()


NO_GRANTS = Grants()


class Access(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The rules in force.

    Attributes:
        services: The permissions for each service of the environment files.
        admins: The names of administrators.
        users: The names of callers that are not services.
        plaintext: The services that receive their own secrets in plain text over private connections.
        enforced: Whether there are rules or tokens; without them everything is allowed.
    """

    services: Mapping[str, Grants]
    admins: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    plaintext: frozenset[str] = frozenset()
    enforced: bool

    @property
    def names(self) -> list[str]:
        """All names in the rules, sorted."""
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
                    f"{operation} is for {service} itself and for administrators, and nothing proves the caller's "
                    "name; create a token with `aliciacfg token create`, or use the command line on its machine."
                )
                return Decision(allowed=False, reason=reason, anonymous=True)
            return _OPEN
        if need == "nothing":
            return _ALLOWED
        if caller.name is None:
            reason = (
                f"{operation} needs the caller's name: over HTTP send a token, over MQTT end the topic with a name of "
                "your own."
            )
            return Decision(allowed=False, reason=reason, anonymous=True)
        if not caller.proven and need not in _READS:
            return Decision(
                allowed=False,
                reason=f"Nothing proves that the caller is {caller.name}, so only reading is allowed: let the broker "
                "enforce the access list that `aliciacfg acl` prints, or send a token over HTTP.",
                anonymous=True,
            )
        if not self._satisfies(need, caller, service):
            return Decision(allowed=False, reason=_reason(need, caller.name, operation, service))
        # A name that is not proven is a claim, which must not reveal secrets.
        return Decision(allowed=True, secrets=caller.proven and caller.name == service)

    def allows(self, caller: Caller, need: Need, service: str | None = None) -> bool:
        """Return whether a caller is allowed to do something; arguments as for ``decide``."""
        return self.decide(caller, need, service, operation="").allowed

    def readable(self, caller: Caller) -> SortedNames | None:
        """Return the services that a caller is allowed to read, exactly as ``allows`` decides for each; None for all.

        Services of these names need not exist.
        """
        if not self.enforced:
            return None
        if caller.name is None:
            return SortedNames()
        role: Role = caller.role if caller.proven else "service"
        if role in _READERS or caller.name in self.admins:
            return None
        return self._readable_by.get(caller.name) or SortedNames([caller.name])

    @cached_property
    def _readable_by(self) -> Mapping[str, SortedNames]:
        """The services by each name that may read them, itself included. Rules never change: an edit makes others.

        Without it, a page of ``list`` asked about each of 10,000 services in turn, for 12 ms.
        """
        found = {service: [service] for service in self.services}
        for service, grants in self.services.items():
            for name in grants.readers:
                found.setdefault(name, [name]).append(service)
        return {name: SortedNames(services) for name, services in found.items()}

    @cached_property
    def _writers(self) -> frozenset[str]:
        """Every name that grants let write some service."""
        return frozenset(name for grants in self.services.values() for name in grants.writers)

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
        """Return whether the caller may change a service's broker account; with its password it can log in as it."""
        return not self.enforced or self.administers(caller) or (caller.proven and caller.name == service)

    def is_person(self, name: str) -> bool:
        """Return whether a name is an administrator's or user's and not a service's, so no service may take it."""
        return self.enforced and name not in self.services and name in self.admins | self.users

    def administers(self, caller: Caller) -> bool:
        """Return whether the caller is a proven administrator; without rules and tokens there are none."""
        return caller.proven and (caller.role == "admin" or caller.name in self.admins)

    def _satisfies(self, need: Need, caller: Caller, service: str | None) -> bool:
        role: Role = caller.role if caller.proven else "service"
        name = caller.name
        if role == "admin" or name in self.admins:
            return True
        match need:
            case "read" | "read_any":
                some = need == "read_any" and name in self._readable_by
                return role in _READERS or (some if service is None else self._reads(name, service))
            case "write" | "write_any":
                some = need == "write_any" and name in self._writers
                return role in _WRITERS or (some if service is None else self._writes(name, service))
            case "own":
                return service is not None and name == service
            case "metrics":
                return role == "metrics" or role in _READERS
            case "admin":
                return False
            case "nothing":
                return True

    def _reads(self, name: str | None, service: str) -> bool:
        return name == service or name in self.services.get(service, NO_GRANTS).readers

    def _writes(self, name: str | None, service: str) -> bool:
        return name in self.services.get(service, NO_GRANTS).writers


def without_rules(services: Iterable[str], *, tokens: bool) -> Access:
    """Return the rules in force without ``access.yaml``.

    Args:
        services: The services of the environment files.
        tokens: Whether there are tokens, so that everything is forbidden that is not allowed.
    """
    return Access(services=dict.fromkeys(services, NO_GRANTS), enforced=tokens)


def _reason(need: Need, name: str, operation: str, service: str | None) -> str:
    """Return the reason why a known caller is refused, and who can change that."""
    right = need.removesuffix("_any")
    if need == "own":
        return f"{operation} of {service} is for {service} itself and for administrators."
    if need != "admin" and service is not None:
        where = f"services.{service}.{right} in {FILE}"
        return f"{name} is not allowed to {right} {service}; an administrator can allow it under {where}."
    role = {"read": "reader", "write": "writer", "metrics": "metrics"}.get(right, "admin")
    some = f"a service that {name} is allowed to {right}, " if need.endswith("_any") else ""
    return f"{operation} needs {some}a name under admins in {FILE}, or a token with the role {role}."
