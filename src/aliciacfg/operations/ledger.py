"""The answers to writes that were carried out, kept for all daemons of a home.

A requester that gets no answer in time sends its request again, and another daemon may get it. The answer is stored in
the transaction of the write, so either both are or none. A request that was carried out before is answered with it.

Only several daemons need that: a daemon alone has carried out what it acknowledged, or keeps it in its session.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import structlog

from aliciacfg.access.caller import Caller
from aliciacfg.api.encoding import Answer
from aliciacfg.api.requests import Request, WriteRequest
from aliciacfg.core.commits import Commits
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.errors import Answered, Busy, OperationError, Unavailable
from aliciacfg.operations.patience import WritePatience
from aliciacfg.sealing.keyed_hash import KeyedHash
from aliciacfg.storage.store import SharedHome

_log = structlog.get_logger(__name__)

T = TypeVar("T")

KEPT_SECONDS = 600.0
"""How long an answer is kept at least: longer than any requester goes on to repeat a request."""

_REMOVAL_SECONDS = 60.0
_DIGEST_BYTES = 16
# The operations whose answers are kept; all others give the same answer if they are carried out once more.
_OPERATIONS = frozenset({"set", "patch", "unset", "delete", "rollback", "batch", "activate"})


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is stored."""

    body: bytes
    etag: str | None
    created: bool


class Ledger:
    """Carries out each request once, whichever daemon gets it how often."""

    def __init__(self, shared: SharedHome, key: bytes, stands_still: Callable[[], bool]) -> None:
        """Keep nothing yet.

        Args:
            shared: Stores the answers, for all daemons.
            key: Makes the digests of requests, which may contain secrets.
            stands_still: Returns whether the database has not answered for several seconds.
        """
        self._shared = shared
        self._digest = KeyedHash(key).digest
        self._patience = WritePatience(stands_still)
        # The requests that this daemon carries out at present.
        self._under_way: dict[tuple[str, str], asyncio.Future[None]] = {}

    async def once(
        self,
        operation: str,
        caller: Caller,
        target: str,
        request: Request,
        carry_out: Callable[[Caller], Awaitable[Answer]],
    ) -> Answer:
        """Carry out a request, or return the answer that was kept for it.

        A request that no requester can be said to have repeated, because it has no id or no sender, is carried out.

        Args:
            operation: The name of the operation.
            caller: Who asks.
            target: The service or environment; empty if there is none.
            request: The request.
            carry_out: Carries it out for the caller that it is called with.

        Raises:
            Unconfirmed: The database stands still; the request is carried out when it goes on, or not at all.
            OperationError: As ``carry_out``.
        """
        if operation not in _OPERATIONS:
            # Some take long, or have several steps.
            return await carry_out(caller)
        key = self.key(operation, caller, target, request)
        if key is None:
            return await self._patience.wait(_begun(carry_out, caller))
        while key in self._under_way:
            # Nothing is left of this one if it gives up: it may be sent again for as long as the database stands still.
            await self._patience.join(self._under_way[key])
        done = self._under_way[key] = asyncio.get_running_loop().create_future()

        def ended() -> None:
            del self._under_way[key]
            done.set_result(None)

        asking = msgspec.structs.replace(caller, answer_key=key)
        return await self._patience.wait(self._once(key, asking, carry_out), ended=ended)

    async def _once(
        self, key: tuple[str, str], caller: Caller, carry_out: Callable[[Caller], Awaitable[Answer]]
    ) -> Answer:
        try:
            return await carry_out(caller)
        except Answered as found:
            return opened(found.content)
        except (Busy, Unavailable):
            raise
        except OperationError as refusal:
            # What the first one made of the configuration may be why this one is refused.
            kept = await self._shared.answer(*key)
            if kept is None:
                raise
            _log.info("request_repeated", requester=key[0], refused=refusal.code)
            return opened(kept)

    async def kept(self, operation: str, caller: Caller, target: str, request: Request) -> Answer | None:
        """Return the answer that was kept for a request; arguments as for ``once``.

        Raises:
            Unavailable: The database cannot be read.
        """
        key = self.key(operation, caller, target, request)
        found = None if key is None else await self._shared.answer(*key)
        return None if found is None else opened(found)

    async def remove_forever(self) -> None:
        """Remove answers that were kept long enough, until cancelled."""
        while True:
            try:
                await self._shared.remove_answers(older_than_seconds=KEPT_SECONDS)
            except Unavailable as error:
                # The store's condition reports it.
                _log.debug("answers_not_removed", reason=error.message)
            await asyncio.sleep(_REMOVAL_SECONDS)

    def key(self, operation: str, caller: Caller, target: str, request: Request) -> tuple[str, str] | None:
        """Return the requester, and what its request is known by; None if its answer is not kept.

        A requester may use an id again for another request, so what is asked for is part of it. A condition is not:
        over HTTP it stands in a header, and is compared before the request is carried out.
        """
        if operation not in _OPERATIONS or request.request_id is None or caller.name is None:
            return None
        if getattr(request, "dry_run", False):
            return None
        asked = msgspec.structs.replace(request, request_id=None)
        if isinstance(asked, WriteRequest):
            asked = msgspec.structs.replace(asked, expected_revision=None)
        digest = self._digest(msgspec.msgpack.encode((operation, target, asked), order="deterministic"))
        return caller.name, f"{request.request_id} {digest[:_DIGEST_BYTES].hex()}"


async def _begun(carry_out: Callable[[Caller], Awaitable[Answer]], caller: Caller) -> Answer:
    return await carry_out(caller)


async def answered(
    commits: Commits,
    context: ChangeContext,
    make: Callable[[Plan], Awaitable[T]],
    answer: Callable[[T], Awaitable[Answer]],
    *,
    dry_run: bool,
) -> Answer:
    """Make a plan and commit it; return the answer, which is kept in the same transaction if the request's one is.

    Args:
        commits: Commits it.
        context: The reason for the change.
        make: Adds to the plan, as for ``Commits.change``.
        answer: Renders the answer of what ``make`` returned, before or after the plan is durable.
        dry_run: Drop the plan at the end.

    Raises:
        OperationError: As ``Commits.change``, ``make`` and ``answer``.
    """

    async def make_with_answer(plan: Plan) -> tuple[T, Answer | None]:
        made = await make(plan)
        if context.answer_key is None:
            return made, None
        rendered = await answer(made)
        plan.keep_answer(closed(rendered))
        return made, rendered

    made, rendered = await commits.change(context, make_with_answer, dry_run=dry_run)
    return await answer(made) if rendered is None else rendered


def closed(answer: Answer) -> bytes:
    """Return an answer in the form in which it is stored."""
    return msgspec.msgpack.encode(_Kept(answer.body, answer.etag, answer.created))


def opened(content: bytes) -> Answer:
    """Return the answer that ``closed`` was given."""
    kept = msgspec.msgpack.decode(content, type=_Kept)
    return Answer(kept.body, kept.etag, kept.created)
