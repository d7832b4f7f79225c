"""Messages of the home's device registry, as its programs send them."""

import time
import uuid
from typing import Any

QUESTION = "alicia/devices/discovery"
ANSWER = "alicia/devices/discovery/config_service"
REGISTERED = "alicia/devices/registered"
DEREGISTERED = "alicia/devices/deregistered"
RUBBISH = [
    b"",
    b"not json",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"7",
    b"{}",
    b'{"devices": 7}',
    b'{"devices": {"lamp": 1}}',
    b'{"message_id": "m", "payload": {"payload": {"devices": "lamp"}}}',
    b'{"message_id": 7, "payload": []}',
    b'{"message_id": "\\ud800", "payload": {"devices": null}}',
    b'{"device_id": 7}',
    b'{"device_id": ""}',
    b'{"device_id": null}',
    b'{"device_id": "' + b"x" * 300 + b'"}',
    b"[" * 100_000,
    b'{"a":' * 60 + b"1" + b"}" * 60,
    b'{"devices": [' + b'{"device_id": "x"},' * 60_000 + b"1]}",
]


def enveloped(source: str, payload: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One envelope as the programs of the home make it."""
    return {
        "message_id": str(uuid.uuid4()),
        "timestamp": time.time(),
        "source": source,
        "destination": "broadcast",
        "message_type": "event",
        "priority": "normal",
        "ttl": 300,
        "payload": payload,
        "routing": {"hops": 0, "max_hops": 10},
        **more,
    }


def twice(payload: dict[str, Any]) -> dict[str, Any]:
    """As the registry says it: its own message inside the envelope of its base class."""
    inner = {
        "message_id": "device_7",
        "timestamp": time.time(),
        "source": "device_registry",
        "destination": "all_services",
        "message_type": "device_registered",
        "payload": payload,
    }
    return enveloped("device_registry", inner)


def device(name: str) -> dict[str, Any]:
    return {
        "device_id": name,
        "device_type": "light",
        "device_name": name.title(),
        "status": "online",
        "capabilities": ["on_off"],
        "ip_address": "192.0.2.7",
    }
