"""The AsyncAPI 3.0 document: every topic of the bus that the daemon reads or writes, and the messages there.

It is made of the operations table, the Structs in ``api``, the table of topics in ``asyncapi_topics``, and recorded
messages; nothing about a single operation is written here.
"""

from collections.abc import Collection, Iterable
from importlib import resources
from typing import Any, cast

import msgspec

from aliciacfg import mqtt
from aliciacfg.api.answers.health import HealthAnswer
from aliciacfg.api.bus_messages import AppliedReport, EnvironmentMessage, KeyMessage, UpdateMessage
from aliciacfg.api.encoding import Failure
from aliciacfg.documents import Json, JsonObject
from aliciacfg.monitoring.alerts import Alert
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.asyncapi_topics import ENVELOPE, HEALTH_MESSAGE, PARAMETERS, TEXT, TOPICS, BusTopic
from aliciacfg.operations import json_schemas
from aliciacfg.operations.table import OPERATIONS, Operation

EXAMPLES = "examples.json"


class Exchange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message that was recorded on a real bus; a request with its answer.

    Attributes:
        channel: The name of the operation in the table, or of the channel in this document.
        name: Distinguishes the messages of one channel.
        summary: What it is an example of.
        topic: The topic that it was published on.
        payload: JSON; absent where it was empty.
        answer: The answer's payload; absent where there was none.
        answer_topic: The topic that the answer was published on.
        answer_status: The answer's ``status`` user property.
    """

    channel: str
    name: str
    summary: str
    topic: str
    payload: Any | msgspec.UnsetType = msgspec.UNSET
    answer: Any | msgspec.UnsetType = msgspec.UNSET
    answer_topic: str = ""
    answer_status: str = ""


_INTRO = """\
The single source of truth for the configuration of every service on the Alicia bus.

A service subscribes to `alicia/config/update/<service>`: its configuration is retained there, and every change is
published there. Or it asks: it publishes to `alicia/config/get/<service>`, with a Response Topic and Correlation Data
(MQTT 5) or a `reply_to` in the payload. A request must not be retained; an empty payload is an empty request. A
further topic level names the requester; a broker with access rules proves that name.

A request may be bare or in one or two of the bus's envelopes; its answer has as many. Secrets show as `***` or are
sealed to the reader.
"""
_ANSWER_ADDRESS = (
    "The request's Response Topic (MQTT 5), else `reply_to` in its payload, else `alicia/reply/` followed by the "
    "request topic after `alicia/config/`. It begins with `alicia/reply/`, or with a prefix that the daemon's "
    "settings allow; with access rules, with `alicia/reply/<requester>/`."
)
_BINDING_VERSION = "0.2.0"
_CORRELATION: JsonObject = {"description": "MQTT 5 Correlation Data: any bytes; echoed.", "type": "string"}


def recorded() -> list[Exchange]:
    """Return the messages that are the document's examples."""
    data = resources.files(mqtt).joinpath(EXAMPLES).read_bytes()
    return msgspec.json.decode(data, type=list[Exchange])


def document(version: str, exchanges: Iterable[Exchange]) -> JsonObject:
    """Return the whole document.

    Args:
        version: The package's.
        exchanges: The examples.
    """
    shown = list(exchanges)
    rows = [row for row in OPERATIONS if row.name != "health"]
    channels: JsonObject = {}
    operations: JsonObject = {}
    for row in rows:
        for name, requester in ((row.name, False), (f"{row.name}_as", True)):
            channels[name] = _request_channel(row, requester=requester)
            operations[name] = _request_operation(row, name, requester=requester)
    for topic in TOPICS:
        channels[topic.name] = _channel(topic)
        operations |= _operations(topic)
    channels["replies"] = _replies(rows)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "aliciacfg",
            "description": _INTRO,
            "version": version,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"bus": _server()},
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": _schemas(rows),
            "messages": _messages(rows, shown),
            "securitySchemes": {
                "broker": {"type": "userPassword", "description": "The service's name and password at the broker."}
            },
        },
    }


def _schemas(rows: Iterable[Operation]) -> JsonObject:
    structs = [struct for row in rows for struct in (row.request, *row.answers)]
    schemas = cast(
        "dict[str, JsonObject]",
        json_schemas.schemas(
            [*structs, Failure, UpdateMessage, EnvironmentMessage, KeyMessage, AppliedReport, Alert, HealthAnswer]
        ),
    )
    for row in rows:
        schemas[row.request.__name__] = _with_properties(schemas[row.request.__name__], without=row.http_only)
    status: JsonObject = {"enum": ["healthy", "degraded", "unhealthy", "offline"]}
    health = _with_properties(schemas[HealthAnswer.__name__], status=status)
    return {**schemas, "Envelope": ENVELOPE, HEALTH_MESSAGE: health}


def _with_properties(schema: JsonObject, *, without: Collection[str] = (), **others: JsonObject) -> JsonObject:
    """Return the schema of an object with some properties replaced and others left out."""
    properties = {**cast("JsonObject", schema["properties"]), **others}
    return {**schema, "properties": {name: value for name, value in properties.items() if name not in without}}


def _server() -> JsonObject:
    return {
        "host": "alicia_bus_core:1883",
        "protocol": "mqtt",
        "protocolVersion": "5.0",
        "description": "The bus of the home; on a broker without MQTT 5 the daemon speaks 3.1.1.",
        "security": [{"$ref": "#/components/securitySchemes/broker"}],
    }


def _request_channel(row: Operation, *, requester: bool) -> JsonObject:
    levels = [*([row.target] if row.target else []), *(["requester"] if requester else [])]
    address = "/".join([topics.CONFIG + row.name, *(f"{{{level}}}" for level in levels)])
    name = f"{row.name}_request"
    channel: JsonObject = {
        "address": address,
        "title": row.summary,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }
    return {**channel, "parameters": {level: PARAMETERS[level] for level in levels}} if levels else channel


def _request_operation(row: Operation, channel: str, *, requester: bool) -> JsonObject:
    anonymous = "The requester is the service itself." if row.target == "service" else "The requester is anonymous."
    who = "The requester is the topic's last level." if requester else anonymous
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": row.summary,
        "description": f"{json_schemas.description(row)}\n\n{who}",
        "messages": [{"$ref": f"#/channels/{channel}/messages/{row.name}_request"}],
        "reply": {
            "address": {"location": "$message.header#/responseTopic", "description": _ANSWER_ADDRESS},
            "channel": {"$ref": "#/channels/replies"},
            "messages": [
                {"$ref": f"#/channels/replies/messages/{row.name}_answer"},
                {"$ref": "#/channels/replies/messages/failure"},
            ],
        },
        "bindings": _binding(retain=False),
    }


def _replies(rows: Iterable[Operation]) -> JsonObject:
    found = [*(f"{row.name}_answer" for row in rows), "failure", "health_answer"]
    return {
        "address": None,
        "title": "Answers",
        "description": f"{_ANSWER_ADDRESS} An answer has the request's QoS and is never retained.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in found},
    }


def _channel(topic: BusTopic) -> JsonObject:
    channel: JsonObject = {
        "address": topic.address,
        "description": topic.summary,
        "messages": {topic.name: {"$ref": f"#/components/messages/{topic.name}"}},
    }
    if topic.parameters:
        channel["parameters"] = {name: PARAMETERS[name] for name in topic.parameters}
    return channel


def _operations(topic: BusTopic) -> JsonObject:
    found: JsonObject = {}
    for action, wanted in (("send", topic.sent), ("receive", topic.received)):
        if wanted:
            operation: JsonObject = {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "summary": topic.summary,
                "messages": [{"$ref": f"#/channels/{topic.name}/messages/{topic.name}"}],
                "bindings": _binding(retain=topic.retained),
            }
            if topic.answer is not None:
                operation["reply"] = {
                    "address": {"location": "$message.header#/responseTopic"},
                    "channel": {"$ref": "#/channels/replies"},
                    "messages": [{"$ref": "#/channels/replies/messages/health_answer"}],
                }
            found[f"{action}_{topic.name}"] = operation
    return found


def _binding(*, retain: bool) -> JsonObject:
    return {"mqtt": {"qos": 1, "retain": retain, "bindingVersion": _BINDING_VERSION}}


def _messages(rows: Iterable[Operation], shown: list[Exchange]) -> JsonObject:
    messages: JsonObject = {}
    for row in rows:
        own = [one for one in shown if one.channel == row.name]
        messages[f"{row.name}_request"] = _message(
            f"{row.name}_request",
            f"Asks: {row.summary[:1].lower()}{row.summary[1:]}",
            _bare_or_wrapped(_request_schema(row)),
            _examples((one.name, one.summary, one.payload) for one in own if one.answer_status != "error"),
            headers={
                "responseTopic": {**TEXT, "description": "MQTT 5 Response Topic."},
                "correlationData": _CORRELATION,
            },
        )
        messages[f"{row.name}_answer"] = _answer(f"{row.name}_answer", json_schemas.one_of(row.answers), own, "success")
    messages["failure"] = _answer("failure", json_schemas.one_of([Failure]), shown, "error")
    for topic in TOPICS:
        own = [one for one in shown if one.channel == topic.name]
        payload = _wrapped(topic.payload) if topic.wrapped else topic.payload
        examples = _examples((one.name, one.summary, one.payload) for one in own)
        messages[topic.name] = _message(topic.name, topic.summary, payload, examples)
        if topic.answer is not None:
            answers = _examples((one.name, one.summary, one.answer) for one in own)
            messages["health_answer"] = _message("health_answer", "The health of the daemon", topic.answer, answers)
    return messages


def _request_schema(row: Operation) -> JsonObject:
    reply_to: JsonObject = {**TEXT, "description": "The topic for the answer, for programs without MQTT 5."}
    # Not beside the reference: AsyncAPI's own dialect is draft 7, where a reference hides what stands beside it.
    return {"allOf": [json_schemas.one_of([row.request]), {"properties": {"reply_to": reply_to}}]}


def _answer(name: str, schema: JsonObject, shown: Iterable[Exchange], status: str) -> JsonObject:
    title = "A refusal" if status == "error" else "The answer"
    examples = _examples((one.name, one.summary, one.answer) for one in shown if one.answer_status == status)
    headers: JsonObject = {
        "status": {"const": status, "description": "MQTT 5 user property."},
        "correlationData": _CORRELATION,
    }
    return _message(name, title, _bare_or_wrapped(schema), examples, headers=headers)


def _message(
    name: str, title: str, payload: JsonObject, examples: list[Json], *, headers: JsonObject | None = None
) -> JsonObject:
    message: JsonObject = {"name": name, "title": title, "contentType": "application/json", "payload": payload}
    if headers is not None:
        message["headers"] = {"type": "object", "properties": headers}
        message["correlationId"] = {"location": "$message.header#/correlationData"}
        own = {name: headers[name] for name in ("responseTopic", "correlationData") if name in headers}
        message["bindings"] = {"mqtt": {**own, "bindingVersion": _BINDING_VERSION}}
    return {**message, "examples": examples} if examples else message


def _examples(found: Iterable[tuple[str, str, Any]]) -> list[Json]:
    return [
        {"name": name, "summary": summary, "payload": payload}
        for name, summary, payload in found
        if payload is not msgspec.UNSET
    ]


def _bare_or_wrapped(schema: JsonObject) -> JsonObject:
    kinds = cast("list[Json]", schema.get("anyOf", [schema]))
    return {"anyOf": [*kinds, {"$ref": "#/components/schemas/Envelope"}]}


def _wrapped(schema: JsonObject) -> JsonObject:
    """Return the schema of a message in its envelope."""
    return {"allOf": [{"$ref": "#/components/schemas/Envelope"}, {"properties": {"payload": schema}}]}
