"""Types of fields that requests, answers and messages on the bus share."""

from typing import Annotated, Any, Literal

from msgspec import Meta

MAX_REQUEST_ID_BYTES = 64
SOURCE = "config_service"

RequestId = Annotated[str, Meta(description=f"Echoed in the answer; at most {MAX_REQUEST_ID_BYTES} bytes.")]
MAX_NUMBER = 2**53 - 1
"""The largest ``epoch`` and ``sequence``: the largest integer that every JSON library reads exactly (RFC 8259 §6)."""

Revision = Annotated[int, Meta(ge=1, le=2**63 - 1, description="1, 2, 3 … per environment and service, never reused.")]
AtLeast = Annotated[
    int,
    Meta(
        ge=1,
        le=2**63 - 1,
        description="Wait a few seconds until this daemon knows this revision, such as that of one's own write.",
    ),
]
RevisionOrNone = Annotated[int, Meta(ge=0, le=2**63 - 1, description="A revision; 0 if there is none.")]
Epoch = Annotated[
    int, Meta(ge=1, le=MAX_NUMBER, description="Raised whenever the database went back, as after a restore.")
]
Sequence = Annotated[
    int,
    Meta(
        ge=0,
        le=MAX_NUMBER,
        description="Raised by every change that readers are notified of, over the whole home; never reused. What has "
        "a higher (epoch, sequence) is newer.",
    ),
]
ExpectedRevision = Annotated[int, Meta(ge=0, le=2**63 - 1, description="0: must not exist yet.")]
Pointers = Annotated[list[str], Meta(description="JSON Pointers (RFC 6901).")]
Remedies = Annotated[list[str], Meta(description="Commands that correct all of it, where there are any.")]
PageLimit = Annotated[
    int,
    Meta(
        ge=1,
        le=1000,
        description="The largest number of items in the answer; a page of 1 MiB ends earlier, and `next` continues it.",
    ),
]
Form = Literal["json", "yaml", "env"]
Timestamp = Annotated[float, Meta(description="Unix seconds.")]
DryRun = Annotated[bool, Meta(description="Check everything and answer the difference, but change nothing.")]
Comment = Annotated[str, Meta(max_length=1024, description="Kept in the history.")]
AllowBreaking = Annotated[bool, Meta(description="Let keys disappear or change their JSON type.")]
RefuseNearMisses = Annotated[
    bool,
    Meta(description="Refuse a new member that no schema knows and whose name is nearly one that it does know."),
]
Difference = Annotated[
    dict[str, list[dict[str, Any]]],
    Meta(description="JSON Patch (RFC 6902) of the effective configuration by service; secrets as ***."),
]
