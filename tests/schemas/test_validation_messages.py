"""The wording of validation problems: what was found, what was expected, and never a secret."""

from typing import Any

import pytest

from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.schemas.validation_messages import for_sender
from service_schemas import SECRET, VALID, compiled, document, problems, settings

EVERYTHING = settings(
    text={"type": "string", "minLength": 3, "maxLength": 5},
    pattern={"type": "string", "pattern": "^a+$"},
    count={"type": "integer", "minimum": 1, "maximum": 5},
    ratio={"exclusiveMinimum": 0, "exclusiveMaximum": 1},
    even={"multipleOf": 2},
    items={"type": "array", "minItems": 2, "maxItems": 3},
    unique={"uniqueItems": True},
    contains={"contains": {"type": "string"}},
    members={"type": "object", "minProperties": 2, "maxProperties": 3},
    names={"propertyNames": {"maxLength": 2}},
    closed={"properties": {"a": {}}, "additionalProperties": False},
    evaluated={"properties": {"a": {}}, "unevaluatedProperties": False},
    required={"required": ["a/b", "c"]},
    dependent={"dependentRequired": {"a": ["b"]}},
    conditional={"if": {"required": ["a"]}, "then": {"required": ["b"]}},
    choice={"enum": ["x", None, True, 3]},
    constant={"const": "x"},
    never=False,
    address={"format": "ipv4"},
    any={"anyOf": [{"type": "string"}, {"type": "null"}]},
    one={"oneOf": [{"type": "string"}, {"type": "null"}]},
    both={"oneOf": [{"type": "integer"}, {"minimum": 0}]},
    negated={"not": {"type": "integer"}},
    first={"prefixItems": [{"type": "string"}]},
    rest={"prefixItems": [{}], "unevaluatedItems": False},
    tuple={"prefixItems": [{}], "items": False},
    union={"type": ["string", "array"]},
    deep={"items": {"properties": {"x/y": {"type": "integer"}}}},
)


@pytest.mark.parametrize(
    ("name", "value", "pointer", "expected"),
    [
        ("text", "ab", "", "at least 3"),
        ("text", "abcdef", "", "at most 5"),
        ("text", 7, "", "found 7; expected a string"),
        ("pattern", "b", "", "^a+$"),
        ("count", 0, "", "at least 1"),
        ("count", 6, "", "at most 5"),
        ("count", 1.5, "", "an integer"),
        ("count", True, "", "found true"),
        ("count", "x" * 500, "", "found 'xxx"),
        ("ratio", 0, "", "more than 0"),
        ("ratio", 1, "", "less than 1"),
        ("even", 3, "", "multiple of 2"),
        ("items", [1], "", "at least 2 items"),
        ("items", [1, 2, 3, 4], "", "at most 3 items"),
        ("items", {}, "", "found an object; expected an array"),
        # A password one level too high is no secret by its place; it is not quoted all the same.
        ("items", "hunter2", "", "found a string; expected an array"),
        ("members", "hunter2", "", "found a string; expected an object"),
        ("unique", [1, 1], "", "all differ"),
        ("contains", [1], "", "contains"),
        ("members", {"a": 1}, "", "at least 2 members"),
        ("members", {"a": 1, "b": 2, "c": 3, "d": 4}, "", "at most 3 members"),
        ("names", {"long": 1}, "", "propertyNames"),
        ("closed", {"a": 1, "b/c": 2}, "/b~1c", "not a known member"),
        ("evaluated", {"a": 1, "b": 2}, "/b", "not a known member"),
        ("required", {"c": 1}, "/a~1b", "is missing"),
        ("dependent", {"a": 1}, "/b", "is missing"),
        ("conditional", {"a": 1}, "/b", "is missing"),
        ("choice", "y", "", "one of 'x', null, true, 3"),
        ("constant", "y", "", "expected 'x'"),
        ("never", 1, "", "must not be present"),
        ("address", "300.1.1.1", "", "ipv4"),
        ("any", 1, "", "anyOf"),
        ("one", 1, "", "oneOf"),
        ("both", 1, "", "exactly one"),
        ("negated", 1, "", "not"),
        ("first", [1], "/0", "a string"),
        ("rest", [1, 2], "", "unevaluatedItems"),
        ("tuple", [1, 2], "/1", "must not be present"),
        ("union", 1, "", "found 1; expected a string or an array"),
        ("deep", [{}, {"x/y": "z"}], "/1/x~1y", "an integer"),
    ],
)
def test_each_keyword_is_told_in_our_own_words(name: str, value: object, pointer: str, expected: str):
    """One problem, at the place itself (a missing or unknown member's own), that says what was expected."""
    ((place, message),) = problems(EVERYTHING, **{name: value}).items()
    assert place == f"/settings/{name}{pointer}"
    assert expected in message
    assert len(message) < 200


def test_a_refusal_lists_all_problems_of_both_schemas():
    """The base contract's and the service's own, in the order of their places, each once."""
    schema = compiled(
        {
            "required": ["settings", "service_name"],
            "properties": {
                "mqtt_config": {
                    "required": ["password"],
                    "properties": {"port": {"type": "integer", "maximum": 65535}},
                },
                "settings": {"required": ["a", "b"], "properties": {"c": {"type": "integer"}}},
            },
        },
    )
    broken = {"version": 1, "environment": "dev", "mqtt_config": {"port": 70000}, "settings": {"c": "x"}}
    assert [problem.pointer for problem in schema.findings(broken)] == [
        "/mqtt_config/host",
        "/mqtt_config/password",
        "/mqtt_config/port",
        "/mqtt_config/username",
        "/service_name",
        "/settings/a",
        "/settings/b",
        "/settings/c",
        "/version",
    ]


@pytest.mark.parametrize(
    "rule",
    [
        {"minLength": 100}, {"maxLength": 2}, {"pattern": "^x$"}, {"enum": ["a"]}, {"const": "a"}, {"format": "ipv4"},
        {"not": {"type": "string"}}, {"anyOf": [{"maxLength": 1}, {"const": "b"}]}, {"oneOf": [{}, {}]},
        {"if": True, "then": {"maxLength": 1}}, {"allOf": [{"maxLength": 1}]},
    ],
)  # fmt: skip
def test_no_problem_quotes_a_secret(rule: dict[str, Any]):
    """Whatever keyword a secret breaks, by its mark or by its name, the text says only that it is a secret."""
    schema = settings(
        marked={"type": "string", "x-sensitive": True, **rule},
        api_key=rule,
        hidden={"type": "string", "writeOnly": True, **rule},
        tokens={"items": rule, "additionalProperties": rule},
    )
    values = {"marked": SECRET, "api_key": SECRET, "hidden": SECRET, "tokens": [SECRET, {"a": SECRET}]}
    told = problems(schema, **values)
    assert {"/settings/marked", "/settings/api_key", "/settings/hidden", "/settings/tokens/0"} <= told.keys()
    assert SECRET not in str(told)
    assert problems(settings(plain=rule), plain="public-value")["/settings/plain"].startswith("found 'public-value'")


@pytest.mark.parametrize("rule", [{"type": "integer"}, {"type": "null"}, False, {"maxProperties": 0}, {"maxItems": 0}])
@pytest.mark.parametrize("value", [{"password": SECRET}, [{"token": SECRET}], {"a": [{"b_key": SECRET}]}])
def test_no_problem_quotes_what_holds_a_secret(rule: Any, value: object):
    """A whole object or array that should not be there is not printed either."""
    assert SECRET not in str(problems(settings(a=rule), a=value))


@pytest.mark.parametrize("password", [31415926, 3.1415926])
def test_no_problem_quotes_what_stands_in_the_place_of_a_secret(password: object):
    """A password of digits without quotes is no string, and a secret all the same."""
    broken = {**VALID, "mqtt_config": {"host": "h", "port": 1, "username": "u", "password": password}}
    (problem,) = compiled(None).findings(broken)
    assert problem.pointer == "/mqtt_config/password"
    assert str(password).lower() not in problem.in_full.message


def test_each_unknown_member_of_a_closed_object_is_a_problem_of_its_own():
    """With its own pointer, as one alone has."""
    assert set(problems(EVERYTHING, closed={"b": 1, "c/d": 2})) == {"/settings/closed/b", "/settings/closed/c~1d"}


@pytest.mark.parametrize("rule", [{"enum": [SECRET, "b"]}, {"const": SECRET}, {"pattern": f"^({SECRET}|b)$"}])
@pytest.mark.parametrize("place", ["marked", "api_key", "tokens"])
def test_no_problem_names_the_values_that_a_secret_may_have(rule: dict[str, Any], place: str):
    """Not to the sender either, who may write and not read; the text names the file that lists them."""
    schema = settings(marked={"x-sensitive": True, **rule}, api_key=rule, tokens={"items": rule})
    (finding,) = ServiceSchema(schema, title="bell", file="schemas/bell.yaml").findings(
        sent := document(**{place: ["other"] if place == "tokens" else "other"})
    )
    for told in (for_sender(finding, sent), finding.in_full, finding.shown):
        assert SECRET not in told.message
        assert told.message.startswith("found a secret; expected ")
    assert for_sender(finding, sent).message.endswith(" (schemas/bell.yaml)")
    assert " (schemas" not in problems(schema, **sent["settings"])[finding.pointer]


@pytest.mark.parametrize("keyword", ["enum", "const"])
def test_no_problem_prints_a_whole_object_that_is_allowed(keyword: str):
    """It may hold a secret."""
    account = {"user": "a", "password": SECRET}
    told = problems(settings(account={keyword: ["none", account] if keyword == "enum" else account}), account="other")
    assert SECRET not in str(told)
    assert "expected " in told["/settings/account"]
