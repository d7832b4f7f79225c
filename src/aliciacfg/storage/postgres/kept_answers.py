"""Reads the answers that daemons kept of requests; those that are asked for at the same time with one statement."""

import asyncio

import structlog

from aliciacfg.errors import Unavailable
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres.calls import Calls
from aliciacfg.storage.postgres.statements import SCHEMA
from aliciacfg.storage.postgres.tasks import Tasks
from aliciacfg.storage.postgres.transaction import confirmed_answer

_log = structlog.get_logger(__name__)

_SELECT = f"""
    SELECT a.requester, a.request_id, a.content FROM {SCHEMA}.answers AS a
    JOIN unnest($1::text[], $2::text[]) AS k (requester, request_id)
    ON a.requester = k.requester AND a.request_id = k.request_id
"""

_Key = tuple[str, str]


class KeptAnswers:
    """Reads answers; a request that comes while a read goes on is part of the next one."""

    def __init__(self, calls: Calls, chain: Chain, tasks: Tasks) -> None:
        self._calls = calls
        self._chain = chain
        self._tasks = tasks
        self._asked: dict[_Key, asyncio.Future[bytes | None]] = {}
        self._reading = False

    async def get(self, requester: str, request_id: str) -> bytes | None:
        """Return the answer that was kept for a request, or None.

        Raises:
            Unavailable: The database cannot be read.
        """
        key = requester, request_id
        if key not in self._asked:
            self._asked[key] = asyncio.get_running_loop().create_future()
        answer = self._asked[key]
        if not self._reading:
            self._reading = True
            self._tasks.start(self._read())
        return await asyncio.shield(answer)

    async def _read(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, {}
                await self._read_some(asked)
        finally:
            self._reading = False

    async def _read_some(self, asked: dict[_Key, "asyncio.Future[bytes | None]"]) -> None:
        requesters, request_ids = map(list, zip(*asked, strict=True))
        try:
            rows = await self._calls.read(lambda link: link.rows(_SELECT, requesters, request_ids))
        except Unavailable as error:
            for answer in asked.values():
                # One for each: a traceback is added to an exception wherever it is raised.
                answer.set_exception(type(error)(error.message))
                # Marks the exception as retrieved: the caller may be gone.
                answer.exception()
            return
        except BaseException:
            for answer in asked.values():
                answer.cancel()
            raise
        found: dict[_Key, bytes] = {}
        for requester, request_id, stored in rows:
            content = confirmed_answer(self._chain, requester, request_id, stored)
            if content is None:
                _log.warning("answer_dropped", requester=requester, remedy="find out what wrote to the database")
            else:
                found[requester, request_id] = content
        for key, answer in asked.items():
            answer.set_result(found.get(key))
