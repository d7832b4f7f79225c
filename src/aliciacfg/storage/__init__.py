"""The durable store of revisions, overlays, outbox and audit log."""
