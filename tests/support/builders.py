"""A valid configuration, and the environment file that makes one of each of its services."""

from typing import Any


def valid_config(**sections: Any) -> dict[str, Any]:
    """Return the smallest configuration that meets the base contract, with sections added.

    Members of ``mqtt_config`` and ``api_config`` are added to those that are there; None takes one away.
    """
    config: dict[str, Any] = {
        "mqtt_config": {"host": "broker", "port": 1883, "username": "u", "password": "from-the-files"},
        "api_config": {"host": "0.0.0.0", "port": 8000},
    }
    for name, value in sections.items():
        if name in {"mqtt_config", "api_config"}:
            members = {**config[name], **value}
            config[name] = {key: member for key, member in members.items() if member is not None}
        else:
            config[name] = value
    return config


def environment_file(services: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    """Return an environment file whose defaults, with sections added, make every service valid."""
    defaults = valid_config(**sections)
    return {"defaults": defaults} if services is None else {"defaults": defaults, "services": services}
