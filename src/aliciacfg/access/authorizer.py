"""Who may do what now: the rules of the files, the tokens of the store, and what the broker proves.

Every decision of every transport is ``check``.
"""

from collections.abc import Callable, Iterable, Mapping

from aliciacfg.access import tokens
from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import Access, Decision, Need, without_rules
from aliciacfg.errors import NotFound
from aliciacfg.model.records import Role, Token
from aliciacfg.monitoring.alerts import Alerts


class Authorizer:
    """Decides, from what is in force at the moment.

    Attributes:
        bus_proves: The broker was seen to enforce the access list, so that the requester in a topic is who asks.
            None until it was tried.
    """

    def __init__(self, known: Iterable[Token], *, alerts: Alerts, clock: Callable[[], float]) -> None:
        """Take what is stored.

        Args:
            known: Every token.
            alerts: Told while rules are not enforced by the broker.
            clock: Unix seconds.
        """
        self._tokens = {token.token_id: token for token in known}
        self._alerts = alerts
        self._clock = clock
        self._rules: Access | None = None
        self._had_rules = False
        self._services: list[str] = []
        self.bus_proves: bool | None = None
        self.access = without_rules([], tokens=bool(self._tokens))

    @property
    def tokens(self) -> Mapping[str, Token]:
        """Every token by its id, revoked and expired ones too."""
        return self._tokens

    def apply_rules(self, rules: Access | None, services: Iterable[str]) -> None:
        """Files were taken over.

        Rules that are gone leave everything closed until the next start: a file removed by accident must not open
        the home.
        """
        self._rules = rules
        self._had_rules = self._had_rules or rules is not None
        self._services = sorted(services)
        self._update_access()

    def close(self) -> None:
        """The files cannot be used and nobody knows what the rules are: what needs a rule is forbidden."""
        self._had_rules = True
        self._update_access()

    @property
    def had_rules(self) -> bool:
        """Whether there were rules since the start, or it is unknown what they are."""
        return self._had_rules

    def apply_tokens(self, tokens: Iterable[Token]) -> None:
        """Apply tokens that are stored, new or changed."""
        changed = {token.token_id: token for token in tokens}
        if changed:
            self._tokens.update(changed)
            self._update_access()

    def find_token(self, token_id: str) -> Token:
        """A token by its id.

        Raises:
            NotFound: There is none.
        """
        found = self._tokens.get(token_id)
        if found is None:
            raise NotFound(f"There is no token {token_id[:80]!r}; `aliciacfg token list` has them all.")
        return found

    def verify_token(self, text: str) -> tuple[str, Role]:
        """Who presents a token, and its role.

        Raises:
            Unauthorized: It is not one of ours, or no longer.
        """
        token = tokens.verify(text, self._tokens, now=self._clock())
        return token.name, token.role

    def check(self, caller: Caller, need: Need, service: str | None = None, *, operation: str) -> Decision:
        """Decide; arguments as for ``Access.decide``.

        Raises:
            Unauthorized: Nobody, or nobody proven, asks.
            Forbidden: The caller may not do this.
        """
        return self.access.check(caller, need, service, operation=operation)

    def allows(self, caller: Caller, need: Need, service: str) -> bool:
        """Whether a caller may do something on one service."""
        return self.access.allows(caller, need, service)

    def set_bus_proves(self, *, proves: bool) -> None:
        """It was tried whether the broker enforces the access list."""
        self.bus_proves = proves
        self._update_alert()

    def reset_bus_proves(self) -> None:
        """The broker is gone; what it proved, another one need not prove."""
        self.bus_proves = None

    def _update_access(self) -> None:
        if self._rules is not None:
            self.access = self._rules
        else:
            closed = bool(self._tokens) or self._had_rules
            self.access = without_rules(self._services, tokens=closed)
        self._update_alert()

    def _update_alert(self) -> None:
        if self.access.enforced and self.bus_proves is False:
            self._alerts.raise_(
                "acl_missing",
                "There are access rules, but the broker does not enforce them: requests over MQTT read redacted and "
                "change nothing. Load the list that `aliciacfg acl` prints into the broker (acl_file, with "
                "allow_anonymous false); it is tried again within half a minute.",
            )
        else:
            self._alerts.clear("acl_missing")
