"""Several writes in one transaction."""

import asyncio
from functools import partial

from msgspec import Raw, UnsetType

from aliciacfg import documents
from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers.configurations import BatchAnswer
from aliciacfg.api.encoding import Answer, encode_failure, encode_success
from aliciacfg.api.requests import MAX_BATCH_BYTES, MAX_BATCH_UPDATES, BatchRequest, BatchUpdate, WriteRequest
from aliciacfg.core.commits import Commits
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.errors import (
    BatchRefused,
    Forbidden,
    InvalidRequest,
    NotApplied,
    OperationError,
    Problem,
    TooLarge,
    Unauthorized,
)
from aliciacfg.operations.ledger import answered
from aliciacfg.operations.write_answers import WriteAnswers
from aliciacfg.operations.write_planner import PlannedChange, WritePlanner, replaced


class BatchOperation:
    """The operation ``batch``."""

    def __init__(
        self,
        *,
        configurations: Configurations,
        commits: Commits,
        planner: WritePlanner,
        answers: WriteAnswers,
        authorizer: Authorizer,
        audit_log: AuditLog,
    ) -> None:
        self._configurations = configurations
        self._commits = commits
        self._planner = planner
        self._answers = answers
        self._authorizer = authorizer
        self._audit_log = audit_log

    async def batch(self, caller: Caller, request: BatchRequest) -> Answer:
        """Carry out several writes in one transaction: all that are valid, or with ``atomic`` all or none."""
        _check_size(request)
        environment = self._configurations.environment(request.environment)
        context = ChangeContext.of_request(caller, "batch", comment=request.comment)

        async def make(plan: Plan) -> list[PlannedChange | OperationError]:
            planned: list[PlannedChange | OperationError] = []
            for update in request.updates:
                # A long batch must not block readers.
                await asyncio.sleep(0)
                planned.append(await self._planned(plan, environment, update, request, caller))
            if request.atomic:
                _refuse_if_any(request, planned)
            return planned

        async def answer(results: list[PlannedChange | OperationError]) -> Answer:
            answers = [await self._result(result, request) for result in results]
            failed = sum(1 for result in results if isinstance(result, OperationError))
            return Answer.of(BatchAnswer(results=answers, applied=len(results) - failed, failed=failed))

        return await answered(self._commits, context, make, answer, dry_run=request.dry_run)

    async def _planned(
        self, plan: Plan, environment: str, update: BatchUpdate, request: BatchRequest, caller: Caller
    ) -> PlannedChange | OperationError:
        """Plan one write of a batch, or return why it is refused."""
        write = WriteRequest(
            environment=environment,
            expected_revision=update.expected_revision,
            allow_breaking=request.allow_breaking,
            dry_run=request.dry_run,
            refuse_near_misses=request.refuse_near_misses,
        )
        try:
            config_id = self._configurations.config_id(update.service, environment)
            self._authorizer.check(caller, "write", update.service, operation="batch")
            if not isinstance(update.config, UnsetType) and isinstance(update.patch, UnsetType):
                wanted = replaced(update.config)
            elif not isinstance(update.patch, UnsetType) and isinstance(update.config, UnsetType):
                wanted = self._planner.patched(config_id, update.patch)
            else:
                raise InvalidRequest(f"The update of {update.service} has to contain either config or patch.")
            return await self._planner.plan(plan, config_id, caller, write, wanted)
        except OperationError as error:
            if isinstance(error, Unauthorized | Forbidden):
                plan.when_decided.append(
                    partial(self._audit_log.record_refusal, caller, "batch", update.service, error)
                )
            return error

    async def _result(self, result: PlannedChange | OperationError, request: BatchRequest) -> Raw:
        # Encoding a hundred long answers must not block readers either.
        await asyncio.sleep(0)
        if isinstance(result, OperationError):
            return Raw(encode_failure(result, None))
        answer = await self._answers.of(result, dry_run=request.dry_run)
        return Raw(encode_success(answer.body, None))


def _check_size(request: BatchRequest) -> None:
    if len(request.updates) > MAX_BATCH_UPDATES:
        raise TooLarge(
            f"The batch has {len(request.updates)} updates; at most {MAX_BATCH_UPDATES} are allowed: send it in parts."
        )
    size = sum(len(documents.encode(update)) for update in request.updates)
    if size > MAX_BATCH_BYTES:
        raise TooLarge(f"The batch is {size} bytes; at most {MAX_BATCH_BYTES} are allowed: send it in parts.")


def _refuse_if_any(request: BatchRequest, results: list[PlannedChange | OperationError]) -> None:
    """Refuse an atomic batch if one of its updates is refused.

    Raises:
        BatchRefused: An update is refused; ``results`` has the answers to all updates.
    """
    refused = [(number, error) for number, error in enumerate(results) if isinstance(error, OperationError)]
    if not refused:
        return
    first, error = refused[0]
    name = request.updates[first].service
    others = NotApplied(
        f"Not applied: the batch is atomic, and update {first} ({name[:64]}) was refused.", code=error.code
    )
    raise BatchRefused(
        f"Nothing was applied: the batch is atomic, and {len(refused)} of {len(results)} updates were refused",
        code=error.code,
        problems=[
            Problem(f"/updates/{number}{problem.pointer}", problem.message)
            for number, found in refused
            for problem in found.problems or (Problem("", found.message),)
        ],
        results=[encode_failure(result if isinstance(result, OperationError) else others, None) for result in results],
    )
