"""Which variables a configuration sets, and what is said about the rest."""

from aliciacfg.documents import JsonObject
from aliciacfg.errors import Problem
from aliciacfg.variables.resolution import Resolution, names_any, names_in, resolve

SCHEMA: JsonObject = {
    "allOf": [
        {"properties": {"service_name": {"type": "string"}}},
        {
            "properties": {
                "settings": {
                    "properties": {
                        "rooms": {"type": "array", "x-env": "ROOMS"},
                        "pin": {"type": "string", "x-sensitive": True, "x-env": "PIN"},
                        "again": {"x-env": "ROOMS"},
                        "level": {"$ref": "#/$defs/level"},
                    }
                }
            },
            "$defs": {"level": {"x-env": "LOG_LEVEL"}},
        },
    ]
}


def resolved(*, derived: bool = False, **settings: object) -> Resolution:
    config: JsonObject = {"service_name": "bell", "version": "1.0.3", "settings": settings}  # pyright: ignore[reportAssignmentType]
    return resolve(config, names_in(SCHEMA), derived=derived)


def test_the_schema_names_the_variables():
    """In document order, arrays with commas, booleans and numbers as in JSON, also through a ``$ref``; no other."""
    found = resolved(level=True, rooms=["hall", 1, "a b"], other="x")
    assert found.values == {"LOG_LEVEL": "true", "ROOMS": "hall,1,a b"}
    assert [variable.pointer for variable in found.variables] == ["/settings/level", "/settings/rooms"]
    assert not found.hidden + found.problems + found.left_out


def test_whether_a_schema_names_any_variable():
    """Also of a value that a configuration does not have."""
    assert names_any(SCHEMA)
    assert not names_any({"allOf": [{"properties": {"a": {"type": ["string", "null"]}}}]})


def test_names_are_made_from_the_pointers():
    """For all values but the version, which differs in each revision."""
    found = resolve(
        {"service_name": "bell", "version": "1.0.3", "settings": {"max_rooms": 3, "1-wire": "é"}},
        lambda _: None,
        derived=True,
    )
    assert found.values == {"SERVICE_NAME": "bell", "SETTINGS_MAX_ROOMS": "3", "SETTINGS_1_WIRE": "é"}


def test_made_names_can_be_asked_for_beside_the_schemas():
    """No other ones are, if nobody asks."""
    assert resolved(derived=True, level="x", other=1).values == {
        "LOG_LEVEL": "x",
        "SERVICE_NAME": "bell",
        "SETTINGS_OTHER": "1",
    }
    assert resolved(other=1).values == {}


def test_secrets_that_cannot_be_read_are_listed():
    """Redacted, sealed to another key, or one of them among the items of an array."""
    sealed = "sealed:v1:0123456789abcdef:AAAA"
    for secret in ("***", sealed, ["x", "***"], {"pins": [sealed]}):
        found = resolved(pin=secret, level="x") if not isinstance(secret, dict) else resolved(rooms=[secret], level="x")
        name, place = ("ROOMS", "rooms") if isinstance(secret, dict) else ("PIN", "pin")
        assert found.hidden == [(name, f"/settings/{place}")]
        assert found.values == {"LOG_LEVEL": "x"}


def test_what_cannot_be_a_variable_is_a_problem_without_its_value():
    """A NUL, one name for two values, and a name that takes over the process, from a schema stored before."""
    (problem,) = resolved(level="hush\ud800").problems
    assert "surrogate" in problem.message
    found = resolved(level="hush\0", rooms=["a"], again="hush")
    assert [problem.pointer for problem in found.problems] == ["/settings/level", "/settings/again"]
    assert "LOG_LEVEL would hold a NUL" in found.problems[0].message
    assert "ROOMS is the variable of /settings/rooms too" in found.problems[1].message
    assert "hush" not in repr(found)
    for name in ("", "A=B", "1A", "A B", "É"):
        (problem,) = resolve({"a": "hush"}, lambda _, name=name: name).problems
        assert "cannot be the name of a variable" in problem.message
    taken = resolve({"a": "/x.so"}, lambda _: "LD_PRELOAD")
    assert taken.values == {}
    assert taken.problems == [Problem("/a", "LD_PRELOAD would take over the process; choose another x-env")]


def test_made_names_that_say_too_little_or_too_much_are_left_out():
    """Two values of one name, a name of the schema, and names that reach beyond the value."""
    config: JsonObject = {
        "a": {"b": 1},
        "a_b": 2,
        "log": {"level": 3},
        "ld": {"preload": "x"},
        "http_proxy": "y",
        "c": 4,
    }
    found = resolve(config, lambda pointer: "LOG_LEVEL" if pointer == "/c" else None, derived=True)
    assert found.values == {"LOG_LEVEL": "4"}
    assert {problem.pointer for problem in found.left_out} == {
        "/a/b",
        "/a_b",
        "/log/level",
        "/ld/preload",
        "/http_proxy",
    }
