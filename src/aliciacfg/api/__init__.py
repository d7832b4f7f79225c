"""Requests and answers of operations, and messages on the bus, as Structs."""
