"""What the daemon reports about itself and about the services: alerts, drift, instances, metrics."""
