"""Everything that can go wrong, as types that carry fields.

    AliciacfgError
    ├── SourceError            environment or schema files that cannot be used; lists every problem
    ├── KeyFileError           the file of sealing keys cannot be used
    ├── DataDirectoryInUse     another daemon holds the lock on the data directory
    ├── AnotherDaemon          another daemon answers for this service on the bus
    ├── SettingsError          a setting of the daemon itself is wrong
    ├── BrokerUnavailable      the broker did not accept a connection or a message
    └── OperationError         an operation was refused; each subclass has a ``code``
        ├── InvalidRequest     invalid_request
        ├── Unauthorized       unauthorized
        ├── Forbidden          forbidden
        ├── NotFound           not_found
        ├── Conflict           conflict
        ├── Incompatible       incompatible
        ├── TooLarge           too_large
        ├── ValidationFailed   validation_failed
        ├── NotApplied         that of another write of an atomic batch
        ├── BatchRefused       that of the first write of an atomic batch that was refused
        ├── Busy               busy
        └── Unavailable        unavailable

An adapter maps ``OperationError.code`` to its own status in exactly one place. Any other exception that
reaches an adapter is ``internal``: logged whole, told nothing.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, cast

import msgspec

ErrorCode = Literal[
    "invalid_request",
    "unauthorized",
    "forbidden",
    "not_found",
    "conflict",
    "incompatible",
    "too_large",
    "validation_failed",
    "busy",
    "unavailable",
    "internal",
]


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with a document.

    Attributes:
        pointer: RFC 6901 JSON Pointer of the place; ``""`` is the whole document.
        message: What was found and what was expected. Never holds a sensitive value.
    """

    pointer: str
    message: str


class SourceProblem(msgspec.Struct, frozen=True):
    """One thing wrong with a file that people edit.

    Attributes:
        file: The file as its operator names it, ``environments/dev.yaml``; empty where the message says it.
        line: 1-based line, or None where the whole file is meant.
        message: What was found and what to do.
        pointer: RFC 6901 JSON Pointer of the place inside the file's document.
    """

    file: str
    line: int | None
    message: str
    pointer: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}" if place else self.message


class AliciacfgError(Exception):
    """The base of every error this package raises on purpose."""


class SourceError(AliciacfgError):
    """Files that cannot be used, with every problem found in them.

    Attributes:
        problems: All of them.
        services: The services whose configuration would be invalid: changing it may mend what is wrong, too.
    """

    def __init__(self, problems: Iterable[SourceProblem], *, services: Iterable[str] = ()) -> None:
        self.problems = tuple(problems)
        self.services = frozenset(services)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yield the exceptions of a group, whatever the groups within it."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(cast("BaseExceptionGroup[BaseException]", error))
        else:
            yield error


class KeyFileError(AliciacfgError):
    """The file of sealing keys cannot be used as it is."""


class DataDirectoryInUse(AliciacfgError):
    """Another process holds the lock on the data directory."""


class AnotherDaemon(AliciacfgError):
    """Another daemon with a data directory of its own is alive on the bus."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        super().__init__(instance)

    def __str__(self) -> str:
        return (
            f"another_daemon: instance {self.instance} already serves configurations on this broker; "
            "stop it first, or point MQTT_BROKER at another broker"
        )


class SettingsError(AliciacfgError):
    """Settings of the daemon itself that cannot be used, one message each."""

    def __init__(self, messages: Iterable[str]) -> None:
        self.messages = tuple(messages)
        super().__init__(*self.messages)

    def __str__(self) -> str:
        return "\n".join(self.messages)


class BrokerUnavailable(AliciacfgError):
    """The broker did not accept a connection or a message."""


class OperationError(AliciacfgError):
    """An operation was refused; nothing changed.

    Attributes:
        code: The public error code.
        message: What was wrong and what to do, for the requester.
        problems: Every problem with the requester's document.
    """

    code: ErrorCode

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__(message)

    def __str__(self) -> str:
        if not self.problems:
            return self.message
        listed = "; ".join(f"{problem.pointer or '(document)'}: {problem.message}" for problem in self.problems)
        return f"{self.message}: {listed}"


class InvalidRequest(OperationError):
    """The request itself is malformed: not JSON, wrong fields, a bad name."""

    code = "invalid_request"


class Unauthorized(OperationError):
    """The requester did not say who it is, or is not known."""

    code = "unauthorized"


class Forbidden(OperationError):
    """The requester is known and may not do this."""

    code = "forbidden"


class NotFound(OperationError):
    """There is no such service, environment, revision or route."""

    code = "not_found"


class Conflict(OperationError):
    """``expected_revision`` is not the current revision.

    Attributes:
        revision: The current revision; 0 if the configuration does not exist.
        checksum: The current checksum; empty if the configuration does not exist.
    """

    code = "conflict"

    def __init__(self, message: str, *, revision: int, checksum: str) -> None:
        super().__init__(message)
        self.revision = revision
        self.checksum = checksum


class Incompatible(OperationError):
    """A breaking change without ``allow_breaking``."""

    code = "incompatible"


class TooLarge(OperationError):
    """Over a limit of size, depth or number."""

    code = "too_large"


class ValidationFailed(OperationError):
    """The resulting configuration is invalid; ``problems`` lists everything."""

    code = "validation_failed"


class NotApplied(OperationError):
    """A write was in order, but another one of its atomic batch was refused; ``code`` is that one's."""

    def __init__(self, message: str, *, code: ErrorCode) -> None:
        super().__init__(message)
        self.code = code


class BatchRefused(OperationError):
    """An atomic batch of which an update was refused; nothing was applied.

    Attributes:
        code: That of the first refused update.
        results: The encoded answer to each update, in order; JSON objects.
    """

    def __init__(self, message: str, *, code: ErrorCode, problems: Iterable[Problem], results: Iterable[bytes]) -> None:
        super().__init__(message, problems)
        self.code = code
        self.results = tuple(results)


class Busy(OperationError):
    """Too many writes are waiting; try again."""

    code = "busy"


class Unavailable(OperationError):
    """The store cannot answer now."""

    code = "unavailable"
