"""The operation ``whoami``: who a caller is, and what it may do."""

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import Access, Need
from aliciacfg.api.answers.administration import NamedEnvironment, Reach, WhoamiAnswer
from aliciacfg.api.encoding import Answer
from aliciacfg.api.requests import Request
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.state import State


class Identity:
    """The operation ``whoami``."""

    def __init__(self, *, authorizer: Authorizer, state: State, files: LoadedFiles) -> None:
        self._authorizer = authorizer
        self._state = state
        self._files = files

    async def whoami(self, caller: Caller, _request: Request) -> Answer:
        """Return who the caller is, and what it may do; for every caller, also without a token."""
        access = self._authorizer.access
        token = None if caller.token_id is None else self._authorizer.tokens.get(caller.token_id)
        return Answer.of(
            WhoamiAnswer(
                name=caller.name,
                role=caller.role if caller.proven else None,
                open=not access.enforced,
                proven=caller.proven,
                private=caller.private,
                admin=access.allows(caller, "admin"),
                read=_reach(access, caller, "read", "read_any"),
                write=_reach(access, caller, "write", "write_any"),
                tokens=access.administers(caller) and caller.private,
                token_id=caller.token_id,
                expires=None if token is None else token.expires,
                environment=self._state.active,
                environments=self._environments() if access.allows(caller, "read_any") else [],
            )
        )

    def _environments(self) -> list[NamedEnvironment]:
        sources = self._files.sources
        if sources is None:
            # Without files in force, the environments are those of the last ones that were.
            names = sorted({*self._files.defined, self._state.active})
            return [NamedEnvironment(name=name, protected=False) for name in names]
        found = sources.environments.values()
        return [NamedEnvironment(name=item.name, protected=item.protected) for item in found]


def _reach(access: Access, caller: Caller, whole: Need, some: Need) -> Reach:
    if access.allows(caller, whole):
        return "all"
    return "some" if access.allows(caller, some) else "none"
