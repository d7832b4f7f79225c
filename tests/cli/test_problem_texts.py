"""Problems of many services are one line."""

from aliciacfg.cli import problem_texts
from aliciacfg.errors import Problem

_MISSING = "is missing; this member is required"


def of(service: str, pointer: str, text: str) -> Problem:
    file, line = "environments/base.yaml", 7
    message = f"{file}:{line}: {service} {pointer or '(document)'}: {text}"
    return Problem(f"/services/{service}{pointer}", message, file=file, line=line, service=service)


def test_what_many_services_have_in_common_is_said_once():
    """With the place; what only two have, or one twice, stays as it is, and so does a problem of a document."""
    many = [of(f"s{number}", "/mqtt_config/password", _MISSING) for number in range(22)]
    large = [of(f"s{number}", "/limits/x", "found 7") for number in range(3)]
    two = [of("a", "/settings/key", _MISSING), of("b", "/settings/key", _MISSING), of("b", "/settings/key", _MISSING)]
    whole = [Problem("", "found a list"), Problem("/x", "found a list"), Problem("/x", "found a list")]
    empty = [of(f"s{number}", "", "is empty") for number in range(3)]
    assert problem_texts.lines([many[0], two[0], *many[1:], *two[1:], *large, *whole, *empty]) == [
        "22 services lack /mqtt_config/password",
        two[0].message,
        two[1].message,
        "3 services: /limits/x: found 7",
        "(document): found a list",
        "/x: found a list",
        "3 services: (document): is empty",
    ]


def test_a_problem_of_a_file_has_its_place_once():
    """Where the message does not have the pointer, that stands before it."""
    file = "environments/access.yaml"
    of_line = Problem("", f"{file}:3: found a list", file=file, line=3)
    of_file = Problem("", f"{file}: is empty", file=file)
    of_member = Problem("/users", f"{file}: found a list", file=file)
    assert problem_texts.lines([of_line, of_file, of_member]) == [
        f"{file}:3: found a list",
        f"{file}: is empty",
        f"/users: {file}: found a list",
    ]


def test_the_missing_places_are_known_by_service():
    """As far as problems name it."""
    found = problem_texts.missing_in([of("a", "/x", _MISSING), of("a", "/y", "found 7"), Problem("", _MISSING)])
    assert found == {"a": {"/x"}}
