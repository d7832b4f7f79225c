"""What the daemon counts."""

from aliciacfg.monitoring.metrics import Metrics


def test_health_reads_what_was_counted():
    """Answered, refused and invalid are plain numbers beside the series."""
    metrics = Metrics(operations=["get", "set"], version="1.2.3")
    metrics.meter("get", "http").answered(0.001)
    metrics.meter("set", "mqtt").answered(0.001, "validation_failed")
    assert (metrics.messages_processed, metrics.errors) == (2, 1)
