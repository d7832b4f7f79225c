"""Schemas of a service, and what the daemon finds wrong with them and with documents."""

from typing import Any

from aliciacfg.schemas.schema_check import schema_problems
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.schemas.validation_messages import for_sender
from builders import valid_config

SECRET = "planted-secret-8f21"
VALID = valid_config(
    service_name="bell",
    version="1.0.0",
    environment="dev",
    mqtt_config={"username": "bell", "password": SECRET},
)


def settings(**properties: Any) -> dict[str, Any]:
    """A schema whose settings have these properties."""
    return {"type": "object", "properties": {"settings": {"type": "object", "properties": properties}}}


def document(**values: Any) -> dict[str, Any]:
    return {**VALID, "settings": values}


def compiled(schema: Any) -> ServiceSchema:
    return ServiceSchema(schema, title="bell")


def found(schema: Any) -> dict[str, str]:
    """What is wrong with a schema: message by pointer."""
    return {problem.pointer: problem.message for problem in schema_problems(schema, title="bell")}


def problems(schema: dict[str, Any], **values: Any) -> dict[str, str]:
    """What a schema finds wrong with settings, as their sender sees it: message by pointer."""
    sent = document(**values)
    told = [for_sender(finding, sent) for finding in compiled(schema).findings(sent)]
    return {problem.pointer: problem.message for problem in told}
