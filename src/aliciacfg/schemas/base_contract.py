"""The base contract: the members of every effective configuration, and the form of those that one may have."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from aliciacfg.documents import Json, JsonObject

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Host = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class MqttConfig(msgspec.Struct, frozen=True):
    """The service's connection to the broker; ``keepalive`` is in seconds. Left out by a service that has none."""

    host: Host
    port: Port
    username: Annotated[str, msgspec.Meta(min_length=1)]
    password: Annotated[str, msgspec.Meta(min_length=1, extra_json_schema={"x-sensitive": True})]
    tls_enabled: bool = False
    keepalive: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 60


class ApiConfig(msgspec.Struct, frozen=True):
    """The address on which the service's own HTTP API listens. Left out by a service that has none."""

    host: Host
    port: Port


class BaseContract(msgspec.Struct, frozen=True):
    """The members of a configuration; a service with nothing but ``settings``, which are its own, is valid."""

    service_name: str
    version: str
    environment: str
    mqtt_config: MqttConfig | UnsetType = UNSET
    api_config: ApiConfig | UnsetType = UNSET
    features: dict[str, bool] = {}
    limits: dict[str, float] = {}
    settings: dict[str, Any] | UnsetType = UNSET


def base_schema() -> JsonObject:
    """Return the base contract as JSON Schema 2020-12, generated from the Structs.

    Documents are validated with the JSON Schema, because msgspec reports only the first problem.
    """
    (root,), components = msgspec.json.schema_components([BaseContract], ref_template="#/$defs/{name}")
    del root
    definitions: dict[str, Json] = dict(components)
    contract = definitions.pop("BaseContract")
    if not isinstance(contract, dict):
        raise TypeError("msgspec did not describe a Struct as an object")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:aliciacfg:base-contract",
        **contract,
        "$defs": definitions,
    }


def struct_schema(struct: object) -> JsonObject:
    """Return the content of a schema file for a service whose settings are a msgspec Struct.

    Args:
        struct: The Struct for the members of ``settings``.

    Raises:
        TypeError: It is not a Struct, or msgspec cannot describe one of its fields.
    """
    if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
        raise TypeError("it is not a msgspec Struct")
    (root,), components = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": struct.__name__,
        "version": "1.0.0",
        "type": "object",
        "required": ["settings"],
        "properties": {"settings": dict(root)},
        "$defs": dict(components),
    }
