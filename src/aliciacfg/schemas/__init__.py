"""The base contract, the JSON Schemas of services, and migrations between their major versions."""
