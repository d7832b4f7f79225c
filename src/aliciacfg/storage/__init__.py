"""The durable store of revisions, overlays, announcements, tokens and audit entries."""
