"""Messages of the daemon to a service: updates, and answers to ``get``."""

from typing import Any

import msgspec

from aliciacfg import documents
from aliciacfg.api.fields import Epoch, Pointers, Revision, Sequence
from aliciacfg.client.order import Numbers
from aliciacfg.documents import JsonObject
from aliciacfg.errors import AliciacfgError, OperationError
from aliciacfg.model.records import AppliedStatus

MAX_BYTES = 2 * 1024 * 1024
"""The largest message that is read; a configuration has at most 256 KiB unless the daemon is configured otherwise."""


class InvalidMessage(AliciacfgError):
    """A message is none of the daemon's; the text says why and quotes nothing of it."""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration as the daemon sends it, secrets sealed or redacted.

    Attributes:
        restart_required: The pointers of this revision's change that take a restart; None in the answer to a ``get``,
            which does not say.
    """

    service: str
    environment: str
    version: str
    revision: Revision
    epoch: Epoch
    sequence: Sequence
    checksum: str
    config: dict[str, Any]
    restart_required: Pointers | None = None

    @property
    def numbers(self) -> Numbers:
        """The place in the order of all changes."""
        return self.epoch, self.sequence


class Refusal(msgspec.Struct, frozen=True):
    """A request that the daemon refused."""

    code: str
    message: str


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a service reports about the configuration that it applied, or not."""

    instance: str
    revision: int
    checksum: str
    status: AppliedStatus
    error: str | None = None


def read_update(payload: bytes, service: str) -> Update:
    """Return the update in a message.

    Args:
        payload: At least one byte.
        service: The service whose update it has to be.

    Raises:
        InvalidMessage: It is none.
    """
    return _update(_object(payload), service)


def read_answer(payload: bytes, service: str) -> Update | Refusal:
    """Return the answer to a ``get``: the configuration, or why there is none.

    Args:
        payload: The message.
        service: The service that was asked for.

    Raises:
        InvalidMessage: It is no such answer.
    """
    content = _object(payload)
    if content.get("status") == "error":
        return _refusal(content)
    return _update(content, service)


def read_schema(payload: bytes) -> JsonObject | Refusal:
    """Return the JSON Schema in the answer to a ``schema``, or why there is none.

    Raises:
        InvalidMessage: It is no such answer.
    """
    content = _object(payload)
    if content.get("status") == "error":
        return _refusal(content)
    schema = content.get("schema")
    if not isinstance(schema, dict):
        raise InvalidMessage("it has no schema")
    return schema


def _refusal(content: JsonObject) -> Refusal:
    code, message = content.get("code"), content.get("message")
    if not isinstance(code, str) or not isinstance(message, str):
        raise InvalidMessage("a refusal without a code and a message")
    return Refusal(code, message)


def _object(payload: bytes) -> JsonObject:
    if len(payload) > MAX_BYTES:
        raise InvalidMessage(f"it has {len(payload)} bytes, and at most {MAX_BYTES} are read")
    try:
        return documents.decode_object(payload)
    except OperationError as error:
        raise InvalidMessage(str(error)) from error


def _update(content: JsonObject, service: str) -> Update:
    try:
        update = msgspec.convert(content, Update)
    except msgspec.ValidationError as error:
        raise InvalidMessage(str(error)) from error
    if update.service != service:
        raise InvalidMessage("it is about another service")
    return update
