"""Messages on the bus that are neither requests nor answers."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from aliciacfg.api.fields import Epoch, Pointers, Revision, Sequence, Timestamp
from aliciacfg.model.records import AppliedStatus


class AppliedReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report of a service after it applied or rejected a configuration."""

    instance: Annotated[str, Meta(min_length=1, max_length=128)]
    revision: Revision
    checksum: Annotated[str, Meta(max_length=128)]
    status: AppliedStatus
    error: Annotated[str, Meta(max_length=1024)] | None = None


class RetainedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What every retained message of the daemon but its health begins with.

    ``message_id`` is a code over the rest of the message by which only the daemon recognises what it published.
    """

    message_id: str
    epoch: Epoch
    sequence: Sequence


class UpdateMessage(RetainedMessage, frozen=True, kw_only=True):
    """The retained message with a service's configuration, published after every change."""

    timestamp: Timestamp
    source: str
    service: str
    environment: str
    version: str
    revision: Revision
    checksum: str
    config: dict[str, Any] | msgspec.Raw
    changed: Pointers
    restart_required: Pointers


class EnvironmentMessage(RetainedMessage, frozen=True, kw_only=True):
    """The retained message that names the active environment."""

    environment: str


class KeyMessage(RetainedMessage, frozen=True, kw_only=True):
    """The retained message with the key that secrets for the daemon are sealed with."""

    key_id: Annotated[str, Meta(description="The first 16 hex digits of the key's SHA-256.")]
    public_key: Annotated[
        str, Meta(description="X25519, standard base64; the key to seal secrets for the daemon with.")
    ]
