"""A valid configuration, and the environment file that makes one of each of its services."""

from typing import Any

import msgspec

from aliciacfg.api.answers.health import HealthAnswer


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


def health(**differences: Any) -> HealthAnswer:
    """What a healthy daemon says of itself, with differences."""
    said = HealthAnswer(
        service="config_service",
        service_name="config_service",
        status="healthy",
        instance="0a1b2c3d4e5f6071",
        environment="dev",
        version="1.0.0",
        timestamp=1000.0,
        uptime=5.0,
        configs_managed=1,
        last_update=None,
        cache_hit_rate=0.0,
        validation_errors=0,
        mqtt_connected=True,
        outbox_pending=0,
        drift=0,
        device_registry="absent",
        services_online=0,
        messages_processed=0,
        errors=0,
        alerts={},
    )
    return msgspec.structs.replace(said, **differences)
