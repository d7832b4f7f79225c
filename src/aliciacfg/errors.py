"""The errors that the package raises on purpose, as types with fields.

    AliciacfgError
    ├── SourceError            environment or schema files are not usable; lists every problem
    ├── KeyFileError           the file of sealing keys is not usable
    ├── DataDirectoryInUse     another process holds the lock on the data directory
    ├── AnotherDaemon          another daemon is active on the bus
    ├── SettingsError          a setting of the daemon itself is wrong
    ├── BrokerUnavailable      the broker did not accept a connection or a message
    └── OperationError         an operation is refused; each subclass has a ``code``
        ├── InvalidRequest     invalid_request
        ├── Unauthorized       unauthorized
        ├── Forbidden          forbidden
        ├── NotFound           not_found
        ├── Conflict           conflict
        ├── Incompatible       incompatible
        ├── TooLarge           too_large
        ├── ValidationFailed   validation_failed
        │   ├── InvalidDocument    a configuration breaks a rule; knows each place in full
        │   └── ActivationRefused  an environment is not valid
        ├── NotApplied         the code of the first refused update of the same atomic batch
        ├── BatchRefused       the code of the first refused update
        ├── Busy               busy
        └── Unavailable        unavailable
            ├── Damaged        unavailable; the database is damaged
            ├── Blocked        unavailable; another program or a person is in the way of the database
            ├── Unconfirmed    unavailable; whether a write was made is not known
            ├── Superseded     unavailable; another daemon changed what a write was planned on
            ├── NotComposed    unavailable; memory lags behind, or other files yield what is stored
            └── Answered       unavailable; the request was carried out before

Each adapter maps ``OperationError.code`` to its own status in exactly one place. It answers any other exception with
the code ``internal`` and no details, and logs the traceback.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

import msgspec
from msgspec import UNSET, UnsetType

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


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem in a document, as answers and alerts show it.

    Attributes:
        pointer: JSON Pointer (RFC 6901) of the place; empty for the whole document.
        message: What was found and what was expected, never with a sensitive value. For a problem of a file it begins
            with ``<file>:<line>: <service> ``, as far as these are known.
        file: The file, relative to the home; missing if it is no problem of a file.
        line: Its 1-based line; missing for the whole file.
        service: The service whose configuration it concerns, where the message names it.
    """

    pointer: str
    message: str
    file: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    service: str | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem in a configuration before it is known who will read about it.

    It holds no value of the configuration, so that no way to an alert, a log or another reader can show one. The
    sender of the configuration sees the value in the answer, which takes it from the request
    (``validation_messages.for_sender``).

    Attributes:
        pointer: JSON Pointer of the place, in full; a name that no schema declares may itself be confidential.
        place: The pointer as any reader may see it: ``*`` stands for each name that no schema declares.
        found: The type and length of what was found; empty if ``expected`` says everything.
        expected: What was expected and what to do.
        expected_in_full: The same with the values that the schema allows, for those who may read the schema; at the
            place of a secret with the name of the schema's file in their place.
        quotable: Whether the sender may see what was found; false at the place of a secret.
        missing: Whether a required member is missing there.
    """

    pointer: str
    place: str
    found: str
    expected: str
    expected_in_full: str = ""
    quotable: bool = False
    missing: bool = False

    @property
    def shown(self) -> Problem:
        """The problem as any reader may see it."""
        return Problem(self.place, _sentence(self.found, self.expected))

    @property
    def in_full(self) -> Problem:
        """The problem for those who may read configuration and schema: every name, but no value that was found."""
        return self.with_found(self.found)

    def with_found(self, found: str) -> Problem:
        """Return the problem in full, with other words for what was found."""
        return Problem(self.pointer, _sentence(found, self.expected_in_full or self.expected))


def _sentence(found: str, expected: str) -> str:
    return f"found {found}{expected}" if found else expected


class SourceProblem(msgspec.Struct, frozen=True):
    """A problem in a file that people edit.

    Attributes:
        file: The file's name relative to the home, such as ``environments/dev.yaml``; empty if the message has it.
        line: 1-based line; None for the whole file.
        message: What was found and what to do, without any value or name that only the file holds: alerts show it.
        pointer: JSON Pointer (RFC 6901) of the place in the file's document.
        in_full: The message with such names, for those who may read the file; empty if it has none.
        variable: The name of the variable that is not set, if that is the problem; otherwise empty.
        place: File and line of a problem whose message has them; None otherwise.
        service: The service that such a message names after them; empty if it names none.
    """

    file: str
    line: int | None
    message: str
    pointer: str = ""
    in_full: str = ""
    variable: str = ""
    place: tuple[str, int | None] | None = None
    service: str = ""

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """Return a problem whose message has its file, line and service."""
        file, line = problem.file, problem.line
        place = None if isinstance(file, UnsetType) else (file, None if isinstance(line, UnsetType) else line)
        return cls("", None, problem.message, problem.pointer, place=place, service=problem.service or "")

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}" if place else self.message

    @property
    def shown(self) -> Problem:
        """The problem as any reader may see it, its place in the message.

        The pointer into a file is left out where there is a line: it may hold names that only the file has.
        """
        file, line = self.place or (self.file, self.line)
        return Problem(
            self.pointer if self.line is None else "",
            str(self),
            file=file or UNSET,
            line=UNSET if line is None else line,
            service=self.service or UNSET,
        )


class AliciacfgError(Exception):
    """The base class of all errors that this package raises on purpose."""


class SourceError(AliciacfgError):
    """Environment or schema files that are not usable.

    Attributes:
        problems: Every problem found in them.
        services: The services whose configuration would be invalid; a change of the configuration may solve the
            problem, too.
    """

    def __init__(self, problems: Iterable[SourceProblem], *, services: Iterable[str] = ()) -> None:
        self.problems = tuple(problems)
        self.services = frozenset(services)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group and of the groups nested in it; any other exception itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from leaves(inner)
    else:
        yield error


class KeyFileError(AliciacfgError):
    """The file of sealing keys cannot be read or written, or is not valid."""


class DataDirectoryInUse(AliciacfgError):
    """Another process holds the lock on the data directory."""


SECOND_HOME = (
    "for a second home on this machine: MQTT_PORT=1884 ALICIACFG_HTTP_PORT=8027 aliciacfg serve --dev, or both "
    "variables in its .env"
)
"""How a daemon gets a broker and a port of its own."""


class AnotherDaemon(AliciacfgError):
    """Another daemon, with a data directory of its own, is active on the bus.

    Attributes:
        instance: The id of the other daemon's data directory.
    """

    def __init__(self, instance: str) -> None:
        self.instance = instance
        super().__init__(instance)

    def __str__(self) -> str:
        return (
            f"another_daemon: instance {self.instance} already serves configurations on this broker; "
            f"stop it first, or point MQTT_BROKER at another broker; {SECOND_HOME}"
        )


class OtherHome(AliciacfgError):
    """The daemon that a command reaches serves another home than the one that the command stands in.

    Attributes:
        hint: What to do.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        self.hint = hint
        super().__init__(message)


class SettingsError(AliciacfgError):
    """Settings of the daemon itself that are not usable.

    Attributes:
        messages: One message for each of them.
    """

    def __init__(self, messages: Iterable[str]) -> None:
        self.messages = tuple(messages)
        super().__init__(*self.messages)

    def __str__(self) -> str:
        return "\n".join(self.messages)


class BrokerUnavailable(AliciacfgError):
    """The broker did not accept a connection or a message."""


class OperationError(AliciacfgError):
    """An operation is refused and changed nothing.

    Attributes:
        code: The public error code.
        message: What is wrong and what to do; shown to the client.
        problems: Every problem in the document that the client sent.
        quotes_request: Whether the message may quote what the client sent, so that only the client may read it.
    """

    code: ErrorCode
    quotes_request: ClassVar[bool] = False

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__(message)

    @property
    def logged_message(self) -> str | None:
        """The message for the log; None if it may quote the request."""
        return None if self.quotes_request else self.message

    def __str__(self) -> str:
        if not self.problems:
            return self.message
        listed = "; ".join(f"{problem.pointer or '(document)'}: {problem.message}" for problem in self.problems)
        return f"{self.message}: {listed}"


class InvalidRequest(OperationError):
    """The request is malformed: it is not JSON, or has wrong fields or an invalid name."""

    code = "invalid_request"
    quotes_request = True


class Unauthorized(OperationError):
    """The caller is anonymous, or nothing proves its name."""

    code = "unauthorized"


class Forbidden(OperationError):
    """The caller is known, but not allowed to do this."""

    code = "forbidden"


class NotFound(OperationError):
    """There is no such service, environment, revision or route."""

    code = "not_found"
    quotes_request = True


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
    """The change would break readers, and the request does not have ``allow_breaking``."""

    code = "incompatible"


class TooLarge(OperationError):
    """A limit on size, depth or number is exceeded."""

    code = "too_large"


class ValidationFailed(OperationError):
    """The configuration would be invalid; ``problems`` lists everything."""

    code = "validation_failed"


class InvalidDocument(ValidationFailed):
    """A configuration breaks rules; ``problems`` shows the findings as any reader may see them.

    Attributes:
        findings: Every problem.
    """

    def __init__(self, message: str, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(message, (finding.shown for finding in self.findings))


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What a change of several services would do, secrets as ``***``; an answer has members of the same names.

    Attributes:
        difference: JSON Patch by service.
        changes: By service, the old and the new value by JSON Pointer.
        changes_left_out: By service, how many changed places are not in ``changes``.
        added: The services that would get their first configuration.
        removed: The services that would have none any more.
    """

    difference: Mapping[str, Sequence[Mapping[str, Any]]]
    changes: Mapping[str, Mapping[str, Any]]
    changes_left_out: Mapping[str, int]
    added: Sequence[str]
    removed: Sequence[str]


class ActivationRefused(ValidationFailed):
    """An environment cannot be activated.

    Attributes:
        remedies: Commands that correct all of it, where there are any.
        trial: For a dry run, what would change apart from the problems.
    """

    def __init__(
        self,
        message: str,
        problems: Iterable[Problem],
        *,
        remedies: Iterable[str],
        trial: Trial | None,
    ) -> None:
        super().__init__(message, problems)
        self.remedies = tuple(remedies)
        self.trial = trial


class NotApplied(OperationError):
    """A valid write is not applied because another update of the same atomic batch was refused.

    Attributes:
        code: The code of the first refused update.
    """

    def __init__(self, message: str, *, code: ErrorCode) -> None:
        super().__init__(message)
        self.code = code


class BatchRefused(OperationError):
    """An update of an atomic batch was refused, so nothing was applied.

    Attributes:
        code: The code of the first refused update.
        results: The answer to each update, in order, as encoded JSON objects.
    """

    def __init__(self, message: str, *, code: ErrorCode, problems: Iterable[Problem], results: Iterable[bytes]) -> None:
        super().__init__(message, problems)
        self.code = code
        self.results = tuple(results)


class Busy(OperationError):
    """Too many writes wait for the disk, or another shared resource, such as event streams, is used up.

    Attributes:
        retry_after_seconds: The time to wait before the next attempt.
    """

    code = "busy"

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(OperationError):
    """The store, or another part that the operation needs, is not usable now."""

    code = "unavailable"


class Answered(Unavailable):
    """The request was carried out before, by this daemon or another one of the home.

    Attributes:
        content: The answer that was kept.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__("The request was carried out before.")
        self.content = content


class Damaged(Unavailable):
    """The database is damaged, so that nothing is written to it; the message says what to do."""


class Blocked(Unavailable):
    """Another program has locked the database, or its file was moved; the message says what to do."""


class Unconfirmed(Unavailable):
    """The store failed while it committed: whether it made the write, it finds out when it works again."""


class Superseded(Unavailable):
    """Another daemon changed what a write was planned on: nothing was written, and memory follows that change now.

    The write is planned again; no client gets this error.
    """


class NotComposed(Unavailable):
    """Memory does not hold the content of what is stored: it lags behind, or the files of this daemon do not yield it.

    Where it lags, what was planned on it is planned again; no client gets this error then.
    """


class WentBack(Unavailable):
    """The database lacks transactions that this daemon has seen, after a failover or a restore: memory is wrong.

    A start sees it as well, raises the epoch and publishes everything again.
    """


class OtherFormat(Unavailable):
    """The home has a format that this program does not work with: nothing was written; the message says what to do.

    Daemons of a newer version raised it, or have not yet; only another version of the program can go on.
    """
