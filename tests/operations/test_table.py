"""The operations table: what it promises, and how a request's fields are checked."""

import dataclasses
import json
from typing import Any, get_args

import msgspec
import pytest

from aliciacfg.api.encoding import Answer
from aliciacfg.api.requests import Request, WriteRequest
from aliciacfg.errors import InvalidRequest
from aliciacfg.model import names
from aliciacfg.operations.operation import Handler
from aliciacfg.operations.table import BY_NAME, HTTP_OPERATIONS, LOCAL_OPERATIONS, OPERATIONS, encode_answer

# The public table: operation, what its name is about, HTTP method and path.
PROMISED = {
    "get": ("service", "GET", "/config/{target}"),
    "set": ("service", "PUT", "/config/{target}"),
    "patch": ("service", "PATCH", "/config/{target}"),
    "unset": ("service", "POST", "/config/{target}/unset"),
    "delete": ("service", "DELETE", "/config/{target}"),
    "validate": ("service", "POST", "/config/validate"),
    "schema": ("service", "GET", "/config/schema/{target}"),
    "list": (None, "GET", "/configs"),
    "batch": (None, "POST", "/configs/batch"),
    "history": ("service", "GET", "/config/{target}/history"),
    "rollback": ("service", "POST", "/config/{target}/rollback"),
    "explain": ("service", "GET", "/config/{target}/explain"),
    "compare": ("service", "GET", "/config/compare/{target}"),
    "environments": (None, "GET", "/environments"),
    "activate": ("environment", "POST", "/environments/{target}/activate"),
    "reload": (None, "POST", "/reload"),
    "recipient": ("service", "PUT", "/config/{target}/recipient"),
    "instances": ("service", "GET", "/config/{target}/instances"),
    "drift": (None, "GET", "/drift"),
    "audit": (None, "GET", "/audit"),
    "health": (None, "GET", "/health"),
    "replicas": (None, "GET", "/replicas"),
    "whoami": (None, "GET", "/whoami"),
    "alerts": (None, "GET", "/alerts"),
    "tokens": (None, "GET", "/tokens"),
    "create_token": (None, "POST", "/tokens"),
    "revoke_token": ("token", "POST", "/tokens/{target}/revoke"),
}
FIELDS = {
    "get": {"at_least", "if_checksum", "revision", "pointer", "format", "wait_seconds"},
    "set": {"config"},
    "patch": {"patch"},
    "unset": {"pointer"},
    "delete": set[str](),
    "validate": {"config"},
    "schema": set[str](),
    "list": {"prefix", "limit", "after", "include"},
    "environments": set[str](),
    "reload": {"dry_run", "migrate"},
    "health": set[str](),
    "replicas": set[str](),
    "batch": {"updates", "atomic", "dry_run", "comment", "allow_breaking", "refuse_near_misses"},
    "history": {"at_least", "limit", "before"},
    "rollback": {"revision"},
    "explain": {"at_least"},
    "compare": {"env1", "env2", "rev1", "rev2"},
    "activate": {"dry_run", "comment"},
    "instances": {"at_least"},
    "drift": set[str](),
    "audit": {"limit", "before", "service", "who", "outcome"},
    "recipient": {"public_key"},
}
COMMON = {"request_id", "environment"}
WRITE = {"expected_revision", "dry_run", "comment", "allow_breaking", "refuse_near_misses"}


@pytest.mark.parametrize(
    ("operation", "field", "choices"), [("get", "format", "json, yaml, env"), ("list", "include", "config")]
)
def test_a_wrong_choice_is_told_with_its_alternatives(operation: str, field: str, choices: str):
    """In the message and at the field's pointer."""
    with pytest.raises(InvalidRequest, match=f"; expected one of {choices}") as refused:
        BY_NAME[operation].parse({field: "xml"})
    assert [problem.pointer for problem in refused.value.problems] == [f"/{field}"]


@pytest.mark.parametrize("operation", [*OPERATIONS, *HTTP_OPERATIONS], ids=lambda operation: operation.name)
def test_every_operation_is_where_the_contract_puts_it(operation: Any):
    """Target, method and path of every operation are public and do not change."""
    assert PROMISED[operation.name] == (operation.target, operation.method, operation.path)


def test_no_two_operations_answer_at_one_place():
    """No name or route occurs twice, and all operations are present."""
    assert len(BY_NAME) == len(OPERATIONS) + len(HTTP_OPERATIONS) + len(LOCAL_OPERATIONS)
    over_http = (*OPERATIONS, *HTTP_OPERATIONS)
    assert len({(operation.method, operation.path) for operation in over_http}) == len(over_http)
    assert {
        "get",
        "set",
        "patch",
        "unset",
        "delete",
        "validate",
        "schema",
        "list",
        "reload",
        "health",
    } <= BY_NAME.keys()


def test_no_service_can_be_called_like_an_operation():
    """Neither the name of an operation nor another fixed word of a path is a valid service name."""
    assert {operation.name for operation in OPERATIONS} == set(get_args(names.OperationName))
    assert {operation.name for operation in HTTP_OPERATIONS} == set(get_args(names.HttpOperationName))
    assert {operation.name for operation in LOCAL_OPERATIONS} == set(get_args(names.LocalOperationName))
    assert set(get_args(names.OperationName)) <= names.RESERVED_SERVICES
    words = {level for operation in OPERATIONS for level in operation.path.split("/")[2:]}
    assert words - {"{target}"} <= names.RESERVED_SERVICES


@pytest.mark.parametrize("name", sorted(BY_NAME.keys() & FIELDS.keys()))
def test_every_operation_takes_the_fields_of_the_contract(name: str):
    """The common ones, those of every write of a service, and its own."""
    operation = BY_NAME[name]
    of_a_write = WRITE if issubclass(operation.request, WriteRequest) else set[str]()
    assert operation.fields == COMMON | of_a_write | FIELDS[name]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_what_writes_says_so(operation: Any):
    """Operations that change nothing use GET, except for the validation of a document."""
    assert operation.writes == (operation.method != "GET" and operation.name != "validate")
    if operation.target == "service" and operation.name != "recipient":
        assert issubclass(operation.request, WriteRequest) == operation.writes


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_the_body_is_where_its_field_is(operation: Any):
    """A body that is the document or the patch itself has a field of that name; GET and DELETE have none."""
    if operation.body in {"config", "patch"}:
        assert operation.body in operation.fields
    assert (operation.body == "none") == (operation.method in {"GET", "DELETE"})
    assert operation.summary


@pytest.mark.parametrize(
    ("name", "fields", "pointer"),
    [
        ("set", {"config": []}, "/config"),
        ("set", {"config": None}, "/config"),
        ("set", {"config": "{}"}, "/config"),
        ("patch", {"patch": 5}, "/patch"),
        ("unset", {"pointer": 0}, "/pointer"),
        ("set", {"config": {}, "expected_revision": "1"}, "/expected_revision"),
        ("set", {"config": {}, "expected_revision": -1}, "/expected_revision"),
        ("set", {"config": {}, "expected_revision": True}, "/expected_revision"),
        ("set", {"config": {}, "expected_revision": 2**63}, "/expected_revision"),
        ("set", {"config": {}, "dry_run": "yes"}, "/dry_run"),
        ("set", {"config": {}, "dry_run": None}, "/dry_run"),
        ("set", {"config": {}, "comment": "x" * 1025}, "/comment"),
        ("set", {"config": {}, "allow_breaking": 1}, "/allow_breaking"),
        ("get", {"revision": 0}, "/revision"),
        ("get", {"revision": 2**63}, "/revision"),
        ("get", {"environment": ["dev"]}, "/environment"),
        ("get", {"request_id": 7}, "/request_id"),
        ("list", {"limit": 0}, "/limit"),
        ("list", {"limit": 1001}, "/limit"),
        ("list", {"include": "everything"}, "/include"),
    ],
)
def test_a_wrong_field_is_refused_by_its_pointer(name: str, fields: dict[str, Any], pointer: str):
    """A wrong type makes one problem at the field, and the message begins with the operation."""
    with pytest.raises(InvalidRequest) as refused:
        BY_NAME[name].parse(fields)
    (problem,) = refused.value.problems
    assert problem.pointer == pointer
    assert refused.value.message.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("set", '{"config": {…}}'),
        ("patch", '{"patch": {…}}'),
        ("validate", '{"config": {…}}'),
        ("unset", '{"pointer": "/limits/x"}'),
        ("rollback", '{"revision": 3}'),
        ("batch", '{"updates": […]}'),
    ],
)
def test_a_missing_field_is_refused_by_name(name: str, example: str):
    """With what to send; a client that sends the document itself over MQTT learns where it goes."""
    with pytest.raises(InvalidRequest) as refused:
        BY_NAME[name].parse({"settings": {"x": 1}})
    (field,) = json.loads(example.replace("…", ""))
    assert refused.value.message == f"{name}: object missing required field `{field}`; send {example}."


class _Update(msgspec.Struct, frozen=True):
    config: dict[str, int]


class _Updates(Request, frozen=True, kw_only=True):
    updates: list[_Update]


@pytest.mark.parametrize(
    ("updates", "pointer"),
    [
        ([{"config": {}}, {"config": []}], "/updates/1/config"),
        ([{"config": {}}, 5], "/updates/1"),
        ([{}], "/updates/0"),
        (5, "/updates"),
    ],
)
def test_the_place_of_a_wrong_field_is_a_json_pointer_at_any_depth(updates: object, pointer: str):
    """The place of a problem is a JSON Pointer, also inside arrays."""
    operation = dataclasses.replace(BY_NAME["list"], handler=Handler(_Updates, BY_NAME["list"].handler.call, ""))
    with pytest.raises(InvalidRequest) as refused:
        operation.parse({"updates": updates})  # pyright: ignore[reportArgumentType]
    assert [problem.pointer for problem in refused.value.problems] == [pointer]
    assert "$" not in refused.value.message


@pytest.mark.parametrize(
    ("operation", "fields", "message"),
    [
        ("set", {"config": "no"}, "set: expected `object`, got `string` at /config."),
        ("get", {"revision": "3"}, "get: expected `integer | null`, got `string` at /revision."),
        ("set", {"config": {}, "dry_run": 1}, "set: expected `boolean`, got `integer` at /dry_run."),
    ],
)
def test_types_have_the_names_of_json(operation: str, fields: dict[str, Any], message: str):
    """A person who sends JSON need not know Python's names of types."""
    with pytest.raises(InvalidRequest) as refused:
        BY_NAME[operation].parse(fields)
    assert refused.value.message == message


def test_unknown_fields_are_ignored():
    """Unknown fields are ignored, because messages on the bus have further members."""
    request = BY_NAME["get"].parse({"revision": 3, "timestamp": 1.5, "source": "x", "config": {}})
    assert request == BY_NAME["get"].parse({"revision": 3})


def test_what_is_left_out_has_the_defaults_of_the_contract():
    """Absent fields have their defaults."""
    assert BY_NAME["list"].parse({}) == BY_NAME["list"].request(limit=100, prefix="", after="")  # pyright: ignore[reportCallIssue]
    request = BY_NAME["delete"].parse({})
    assert isinstance(request, WriteRequest)
    assert (request.environment, request.expected_revision, request.dry_run, request.allow_breaking) == (
        None,
        None,
        False,
        False,
    )


@pytest.mark.parametrize(("text", "taken"), [("x" * 64, True), ("x" * 65, False), ("é" * 32, True), ("é" * 33, False)])
def test_a_request_id_has_at_most_64_bytes(text: str, taken: bool):
    """Bytes, not characters; a longer one is refused, not cut."""
    if taken:
        assert BY_NAME["get"].parse({"request_id": text}).request_id == text
    else:
        with pytest.raises(InvalidRequest, match="64"):
            BY_NAME["get"].parse({"request_id": text})


@pytest.mark.parametrize("request_id", [None, "abc", '"quoted" é'])
def test_every_answer_begins_with_its_status(request_id: str | None):
    """``status`` and ``request_id`` are added to every answer, even an empty one."""
    for body in (b"{}", b'{"a":1}'):
        whole = json.loads(encode_answer(BY_NAME["get"], Answer(body), request_id))
        assert whole == {"status": "success", "request_id": request_id, **json.loads(body)}


def test_health_has_a_status_of_its_own():
    """The answer to ``health`` keeps its own ``status``."""
    assert encode_answer(BY_NAME["health"], Answer(b'{"status":"degraded"}'), "id") == b'{"status":"degraded"}'
