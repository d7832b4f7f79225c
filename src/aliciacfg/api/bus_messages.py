"""Messages on the bus that are neither requests nor answers."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from aliciacfg.api.fields import Pointers, Revision, Timestamp
from aliciacfg.model.records import AppliedStatus


class AppliedReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report of a service after it applied or rejected a configuration."""

    instance: Annotated[str, Meta(min_length=1, max_length=128)]
    revision: Revision
    checksum: Annotated[str, Meta(max_length=128)]
    status: AppliedStatus
    error: Annotated[str, Meta(max_length=1024)] | None = None


class UpdateMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The retained message with a service's configuration, published after every change."""

    message_id: str
    timestamp: Timestamp
    source: str
    service: str
    environment: str
    version: str
    revision: Revision
    epoch: int
    checksum: str
    config: dict[str, Any] | msgspec.Raw
    changed: Pointers
    restart_required: Pointers
