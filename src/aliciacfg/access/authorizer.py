"""Authorization: the rules of the files, the stored tokens, and whether the broker proves the names of its clients.

Every transport asks ``Authorizer.check``.
"""

from collections.abc import Callable, Iterable, Mapping

from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import Access, Decision, Need, without_rules
from aliciacfg.access.tokens import Presented, confirm, presented
from aliciacfg.errors import NotFound
from aliciacfg.model.records import Token
from aliciacfg.monitoring.alerts import Alerts


class Authorizer:
    """Decides whether a caller is allowed to do something, by the current rules and tokens.

    Attributes:
        access: The rules in force.
        bus_proves: Whether the broker enforces the access list, so that the requester in a topic is proven. None
            before the first check.
        changes: How often rules or tokens came into force.
        token_changes: How often tokens were made or revoked, here or at another daemon.
    """

    def __init__(
        self, stored_tokens: Iterable[Token], *, had_tokens: bool, alerts: Alerts, clock: Callable[[], float]
    ) -> None:
        """Start with the stored tokens and without rules.

        Args:
            stored_tokens: All stored tokens.
            had_tokens: Whether there has been a token, so that access is restricted though none may be stored.
            alerts: Gets the alert ``acl_missing`` while the broker does not enforce the rules.
            clock: Returns Unix seconds.
        """
        self._tokens = {token.token_id: token for token in stored_tokens}
        self._had_tokens = had_tokens or bool(self._tokens)
        self._alerts = alerts
        self._clock = clock
        self._rules: Access | None = None
        self._had_rules = False
        self._services: list[str] = []
        self.bus_proves: bool | None = None
        self.changes = self.token_changes = 0
        self.access = without_rules([], tokens=self._had_tokens)

    @property
    def tokens(self) -> Mapping[str, Token]:
        """All tokens by id, including revoked and expired ones."""
        return self._tokens

    def apply_rules(self, rules: Access | None, services: Iterable[str]) -> None:
        """Apply the rules of files that came into force.

        If there were rules before, their removal leaves everything closed until the next start, so that a file
        removed by accident does not open the home.

        Args:
            rules: The rules; None if there is no ``access.yaml``.
            services: All services of the environment files.
        """
        self._rules = rules
        self._had_rules = self._had_rules or rules is not None
        self._services = sorted(services)
        self._update_access()

    def close(self) -> None:
        """Forbid everything that needs a rule, because the files are not valid and the rules are unknown."""
        self._had_rules = True
        self._update_access()

    @property
    def had_rules(self) -> bool:
        """Whether there have been rules since the start, or the rules are unknown."""
        return self._had_rules

    def apply_tokens(self, tokens: Iterable[Token]) -> None:
        """Apply new or changed tokens, which are stored by now."""
        changed = {token.token_id: token for token in tokens}
        if changed:
            self._tokens.update(changed)
            self._had_tokens = True
            self.token_changes += 1
            self._update_access()

    def find_token(self, token_id: str) -> Token:
        """Return a token by its id.

        Raises:
            NotFound: There is no such token.
        """
        found = self._tokens.get(token_id)
        if found is None:
            raise NotFound(f"There is no token {token_id[:80]!r}; `aliciacfg token list` lists all tokens.")
        return found

    def verify_token(self, text: str) -> Token:
        """Return the stored token of a text.

        Raises:
            Unauthorized: The token is malformed, unknown, expired or revoked.
        """
        return self.confirm_token(presented(text))

    def confirm_token(self, sent: Presented) -> Token:
        """Return the stored token that was read already.

        Raises:
            Unauthorized: The token is unknown, expired or revoked.
        """
        return confirm(sent, self._tokens, now=self._clock())

    def is_expired(self, token: Token) -> bool:
        """Return whether the time of a stored token is over."""
        return token.expires is not None and token.expires <= self._clock()

    def check(self, caller: Caller, need: Need, service: str | None = None, *, operation: str) -> Decision:
        """Raise an error if a caller is not allowed to do something; arguments as for ``Access.decide``.

        Raises:
            Unauthorized: The caller is anonymous, or its name is not proven.
            Forbidden: The caller is not allowed to do this.
        """
        return self.access.check(caller, need, service, operation=operation)

    def allows(self, caller: Caller, need: Need, service: str) -> bool:
        """Return whether a caller is allowed to do something with a service."""
        return self.access.allows(caller, need, service)

    def set_bus_proves(self, *, proves: bool) -> None:
        """Set whether the broker enforces the access list."""
        self.bus_proves = proves
        self._update_alert()

    def reset_bus_proves(self) -> None:
        """Forget whether the broker enforces the access list; the next connection may lead to another broker."""
        self.bus_proves = None

    def _update_access(self) -> None:
        self.changes += 1
        if self._rules is not None:
            self.access = self._rules
        else:
            closed = self._had_tokens or self._had_rules
            self.access = without_rules(self._services, tokens=closed)
        self._update_alert()

    def _update_alert(self) -> None:
        if self.access.enforced and self.bus_proves is False:
            self._alerts.raise_(
                "acl_missing",
                "There are access rules, but the broker does not enforce them: requests over MQTT may only read, and "
                "their answers show no secrets. Load the list that `aliciacfg acl` prints into the broker (acl_file, "
                "with allow_anonymous false); the daemon checks again within half a minute. The broker that `serve "
                "--dev` starts takes no list: there, use HTTP with a token (`ALICIACFG_TOKEN=… aliciacfg --http URL "
                "…`), or another broker, with the files of `aliciacfg setup`.",
            )
        else:
            self._alerts.clear("acl_missing")
