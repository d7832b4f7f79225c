"""Problems of many services are one line."""

from aliciacfg.cli import problem_texts
from aliciacfg.errors import Problem

_MISSING = "is missing; this member is required"


def of(service: str, pointer: str, text: str) -> Problem:
    return Problem(f"/services/{service}{pointer}", f"environments/base.yaml:7: {service} {pointer}: {text}")


def test_what_many_services_have_in_common_is_said_once():
    """With the place; what only two have, or one twice, stays as it is, and so does a problem of a document."""
    many = [of(f"s{number}", "/mqtt_config/password", _MISSING) for number in range(22)]
    large = [of(f"s{number}", "/limits/x", "found 7") for number in range(3)]
    two = [of("a", "/settings/key", _MISSING), of("b", "/settings/key", _MISSING), of("b", "/settings/key", _MISSING)]
    whole = [Problem("", "found a list"), Problem("/x", "found a list"), Problem("/x", "found a list")]
    assert problem_texts.lines([many[0], two[0], *many[1:], *two[1:], *large, *whole]) == [
        "22 services lack /mqtt_config/password",
        two[0].message,
        two[1].message,
        "3 services: /limits/x: found 7",
        "(document): found a list",
        "/x: found a list",
    ]


def test_the_missing_places_are_known_by_service():
    """As far as messages name them."""
    found = problem_texts.missing_in([of("a", "/x", _MISSING), of("a", "/y", "found 7"), Problem("", _MISSING)])
    assert found == {"a": {"/x"}}
