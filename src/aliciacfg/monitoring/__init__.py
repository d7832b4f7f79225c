"""What the daemon reports about itself and its home: alerts, drift, instances, metrics."""
