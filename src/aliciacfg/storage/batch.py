"""What several writes that are committed together come to: of what is replaced, the last one of a key counts."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from aliciacfg.model.records import Announcement, AuditEntry, Overlay, Position, Record, Write
from aliciacfg.storage.rows import Row, standing_rows


@dataclass(slots=True)
class Batch:
    """The rows of several writes.

    Every write that readers are notified of replaces the position of the home, and of many writes of one configuration
    each its overlay and its announcement.

    Attributes:
        chained: The rows to add to the chain, in order.
        overlays: The overlays by environment and service; one whose patch is None is dropped.
        standing: The rows of the tables of ``STANDING_COLUMNS``, by table and first column.
        announcements: The announcements by subject.
        position: The position of the home; None if it stays.
    """

    chained: list[Record | AuditEntry] = field(default_factory=list[Record | AuditEntry])
    overlays: dict[tuple[str, str], Overlay] = field(default_factory=dict[tuple[str, str], Overlay])
    standing: dict[tuple[str, object], Row] = field(default_factory=dict[tuple[str, object], Row])
    announcements: dict[str, Announcement] = field(default_factory=dict[str, Announcement])
    position: Position | None = None


def combine(writes: Iterable[Write]) -> Batch:
    """Return what writes come to, in their order, but for what the chain neither covers nor announces."""
    batch = Batch()
    for write in writes:
        batch.chained += write.records
        batch.chained += write.audit
        batch.overlays.update({(overlay.environment, overlay.service): overlay for overlay in write.overlays})
        batch.standing.update({(table, row[0]): row for table, row in standing_rows(write)})
        batch.announcements.update({item.subject: item for item in write.announcements})
        batch.position = write.position or batch.position
    return batch
