"""What the daemon and the programs of other services share on the bus: topics, the broker's address, connecting."""
