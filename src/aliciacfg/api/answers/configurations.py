"""Configurations: read, written, checked, listed; their schemas and their history."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aliciacfg.api.answers.changes import ValueChange, WaitsForBroker
from aliciacfg.api.answers.refused_edits import RefusedEdits
from aliciacfg.api.fields import Difference, Epoch, Pointers, Revision, Sequence, Timestamp
from aliciacfg.errors import Problem
from aliciacfg.model.records import Cause


class ConfigAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A configuration as its reader is allowed to see it."""

    service: str
    config: dict[str, Any] | msgspec.Raw
    version: str
    last_updated: Timestamp
    environment: str
    revision: Revision
    sequence: Sequence
    epoch: Epoch
    checksum: str
    refused_edits: RefusedEdits = []


class PickedAnswer(ConfigAnswer, frozen=True, kw_only=True):
    """``get`` with a ``pointer``: ``config`` is the value at that place."""

    config: Any


class UnchangedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``get`` with the ``if_checksum`` of the current revision."""

    revision: Revision
    checksum: str
    unchanged: bool = True


class WarningDetail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of a warning, for programs.

    Attributes:
        kind: ``unknown_name``: no schema describes a member. ``shadowed``: a change made at run time hides the value of
            a file, so that edits of the file have no effect until the change is taken back.
        message: The warning, as in ``warnings``.
        pointer: The place in the configuration; missing in the last one of many, which counts the rest.
        did_you_mean: The place that was probably meant by an unknown name.
        file: The file with the hidden value.
        line: Its 1-based line.
        overlay_revision: The revision that hides it.
    """

    kind: Literal["unknown_name", "shadowed"]
    message: str
    pointer: str | UnsetType = UNSET
    did_you_mean: str | UnsetType = UNSET
    file: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    overlay_revision: Revision | UnsetType = UNSET


WarningDetails = Annotated[
    list[WarningDetail],
    Meta(description="What each of `warnings` is about, in their order; missing if there are none."),
]


class WriteAnswer(ConfigAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """A configuration after a write; ``difference`` (RFC 6902) only for a dry run.

    Attributes:
        changes: The old and the new value of each place in ``changed``, by JSON Pointer; none if the configuration is
            new. At most 100 places, none with a value of more than 1 KiB.
        changes_left_out: How many places of ``changed`` are not in ``changes`` for that reason.
    """

    message: str
    changed: Pointers
    restart_required: Pointers
    warnings: list[str]
    warning_details: WarningDetails = []
    waits_for_broker: WaitsForBroker = False
    unchanged: bool = False
    dry_run: bool = False
    changes: dict[str, ValueChange] = {}
    changes_left_out: Annotated[int, Meta(ge=0)] = 0
    remains: bool | UnsetType = UNSET
    difference: Difference | UnsetType = UNSET


class DeletedAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``delete`` of a configuration that no file defines."""

    service: str
    environment: str
    revision: Revision
    sequence: Sequence
    epoch: Epoch
    message: str
    remains: Annotated[bool | None, Meta(description="False: the configuration no longer exists.")] = None
    waits_for_broker: WaitsForBroker = False
    dry_run: bool = False
    difference: Difference | UnsetType = UNSET


class ValidateAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``validate``; ``warnings`` names the members that no schema describes."""

    valid: bool
    problems: list[Problem]
    warnings: list[str] = []
    warning_details: WarningDetails = []


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``batch``: the answer to each update, in order: that of a write, or an error object."""

    results: list[msgspec.Raw]
    applied: int
    failed: int


class SchemaAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``schema``: the whole JSON Schema, base contract included."""

    service: str
    schema: dict[str, Any]
    version: str


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a configuration and its service are, in a ``list`` with ``include=status``.

    Attributes:
        author: Who made the newest revision.
        cause: Why.
        comment: The author's comment.
        breaking: Whether it removed a key or changed the JSON type of one.
        changed_count: How many places it changed.
        overlay: Whether there are changes made at run time.
        may_write: Whether the caller may change it.
        online: Whether the service has registered and not unregistered; missing if it never registered.
        drift: How many differences from the store concern it; for administrators.
        instances: How many running copies have reported, in the active environment; without those that have been silent
            for a day and run something else.
        behind: How many of them do not run the newest revision.
        restart_pending: How many of these wait for a restart.
        rejected: How many of these have rejected it.
        problems: For how many reasons the files yield no other configuration; ``explain`` lists them.
    """

    author: str
    cause: Cause
    comment: str | None = None
    breaking: bool = False
    changed_count: int = 0
    overlay: bool = False
    may_write: bool = False
    online: bool | UnsetType = UNSET
    drift: int = 0
    instances: int = 0
    behind: int = 0
    restart_pending: int = 0
    rejected: int = 0
    problems: int = 0


class InvalidService(msgspec.Struct, frozen=True, kw_only=True):
    """A service that the files name and that has no configuration, because what they say is not valid.

    Attributes:
        problems: The reasons, each with file and line.
        missing: The secrets that it lacks, if that is all.
        may_write: Whether the caller may change it.
    """

    service: str
    environment: str
    problems: list[Problem]
    missing: Pointers
    may_write: bool


class ListItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One configuration in a ``list``."""

    service: str
    environment: str
    version: str
    revision: Revision
    checksum: str
    last_updated: Timestamp
    config: dict[str, Any] | UnsetType = UNSET
    status: ServiceStatus | UnsetType = UNSET


class ListAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``list``; ``next`` is the ``after`` of the next page, null on the last.

    Attributes:
        active: With ``include=status``: whether the environment is the active one.
        protected: With ``include=status``: whether a write in it needs ``expected_revision``.
        invalid: With ``include=status``, on the first page: at most 100 services without a configuration.
    """

    configs: list[ListItem]
    next: str | None
    refused_edits: RefusedEdits = []
    active: bool | UnsetType = UNSET
    protected: bool | UnsetType = UNSET
    invalid: list[InvalidService] = []


class HistoryItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One revision; ``deleted`` if it ended the configuration."""

    revision: Revision
    sequence: Sequence
    version: str
    timestamp: Timestamp
    author: str
    cause: Cause
    breaking: bool
    comment: str | None
    checksum: str
    changed: Pointers
    restart_required: Pointers
    deleted: bool = False


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``history``; ``next`` is the ``before`` of the next page, null on the last."""

    service: str
    environment: str
    revisions: list[HistoryItem]
    next: Revision | None
