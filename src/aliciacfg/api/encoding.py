"""Encoded answers and error objects."""

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aliciacfg.api.answers.changes import AddedServices, Changes, ChangesLeftOut, RemovedServices
from aliciacfg.api.fields import Difference, Form, Remedies
from aliciacfg.documents import encode
from aliciacfg.errors import ActivationRefused, BatchRefused, Conflict, ErrorCode, OperationError, Problem


@dataclass(frozen=True, slots=True)
class Answer:
    """An operation's encoded answer.

    Attributes:
        body: A JSON object without ``status`` and ``request_id``; if ``form`` is not ``json``, the whole answer.
        etag: An opaque tag; None if the answer does not show one configuration.
        created: Whether the configuration did not exist before.
        form: The format of ``body``.
    """

    body: bytes
    etag: str | None = None
    created: bool = False
    form: Form = "json"

    @classmethod
    def of(cls, fields: msgspec.Struct) -> "Answer":
        """Return an answer without an etag: the fields as JSON."""
        return cls(encode(fields))


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The error object of a refused request, for every transport."""

    status: Literal["error"]
    code: ErrorCode
    message: str
    problems: list[Problem]
    request_id: str | None
    revision: int | UnsetType = UNSET
    checksum: str | UnsetType = UNSET
    results: (
        Annotated[list[msgspec.Raw], Meta(description="For an atomic batch: the answer to each update, in order.")]
        | UnsetType
    ) = UNSET
    remedies: Remedies = []
    difference: Difference | UnsetType = UNSET
    changes: Changes = {}
    changes_left_out: ChangesLeftOut = {}
    added: AddedServices = []
    removed: RemovedServices = []
    applied: int | UnsetType = UNSET
    failed: int | UnsetType = UNSET


def encode_success(body: bytes, request_id: str | None) -> bytes:
    """Add ``status`` and ``request_id`` to an encoded answer.

    Args:
        body: A JSON object without these two members.
        request_id: The request's id, or None.
    """
    head = _SUCCESS if request_id is None else b'{"status":"success","request_id":' + encode(request_id)
    return head + (b"}" if body == b"{}" else b"," + body[1:])


def strip_success(answer: bytes) -> bytes:
    """Return the body of which ``encode_success`` without a request's id made an answer."""
    return b"{" + answer[len(_SUCCESS) :].removeprefix(b",")


_SUCCESS = b'{"status":"success","request_id":null'


def encode_failure(error: OperationError, request_id: str | None) -> bytes:
    """Encode the error object of a refused request."""
    failure = Failure(
        status="error", code=error.code, message=error.message, problems=list(error.problems), request_id=request_id
    )
    if isinstance(error, Conflict):
        failure = msgspec.structs.replace(failure, revision=error.revision, checksum=error.checksum)
    elif isinstance(error, BatchRefused):
        results = [msgspec.Raw(result) for result in error.results]
        failure = msgspec.structs.replace(failure, results=results, applied=0, failed=len(results))
    elif isinstance(error, ActivationRefused):
        failure = msgspec.structs.replace(failure, remedies=error.remedies)
        if error.trial is not None:
            failure = msgspec.structs.replace(failure, **msgspec.structs.asdict(error.trial))
    return encode(failure)


def encode_internal(request_id: str | None) -> bytes:
    """Encode the error object of an unexpected failure, which reveals no details."""
    message = "The daemon failed on this request; its log says why."
    return encode(Failure(status="error", code="internal", message=message, problems=[], request_id=request_id))
