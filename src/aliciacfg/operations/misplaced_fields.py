"""Refuses documents that are a whole request, or that have fields of a request as members.

Over MQTT a request has its fields beside ``config`` or ``patch``. Over HTTP the fields are in the query, and the body
is the document itself. A client that sends the form of one transport over the other would otherwise have ``patch`` or
``dry_run`` stored as a member and published to all readers.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from aliciacfg.api.requests import PatchRequest, SetRequest
from aliciacfg.documents import Json, JsonObject, escape
from aliciacfg.errors import InvalidRequest, Problem

Form = Literal["config", "patch"]

# Those of a batch's updates as well.
_FIELDS: Mapping[Form, frozenset[str]] = {
    "config": frozenset({*SetRequest.__struct_encode_fields__, "service"}),
    "patch": frozenset({*PatchRequest.__struct_encode_fields__, "service"}),
}
# Without one of these, a request has another effect than its sender expects.
_DECISIVE: Mapping[str, type[bool | int]] = {
    "dry_run": bool, "expected_revision": int, "allow_breaking": bool, "refuse_near_misses": bool,
}  # fmt: skip


def check(sent: JsonObject, form: Form, service: str, knows: Callable[[str], bool]) -> None:
    """Return if the members of a document are probably meant as members.

    Args:
        sent: The document.
        form: What it was sent as.
        service: The name of the service.
        knows: Returns whether a member of that name at the top is known, from the schema or from the configuration.

    Raises:
        InvalidRequest: It is a whole request, or has a field that decides what a request does.
    """
    wrapper = next((field for field in _FIELDS if _wraps(sent, field, form, knows)), None)
    if wrapper is not None:
        what = "merge patch" if form == "patch" else "configuration"
        raise InvalidRequest(
            f"The {what} of {service} is wrapped once too often: it has nothing but the fields of a request. Send the "
            f"{what} itself; over HTTP it is the body, and each other field a query parameter. {_remedy(wrapper)}",
            [Problem(f"/{wrapper}", f"is a field of a request; the {what} is what stands in it")],
        )
    misplaced = [name for name, kind in _DECISIVE.items() if _is_a(sent.get(name), kind) and not knows(name)]
    if misplaced:
        raise InvalidRequest(
            f"{misplaced[0]} stands in the {form} of {service}, where it has no effect. Send it beside that; over HTTP "
            f"it is a query parameter: ?{misplaced[0]}=… {_remedy(misplaced[0])}",
            [Problem(f"/{escape(name)}", "is a field of a request, not of a configuration") for name in misplaced],
        )


def _wraps(sent: JsonObject, field: Form, form: Form, knows: Callable[[str], bool]) -> bool:
    """Return whether a field of a request has the document in it, and nothing but such fields stands beside it."""
    inner = sent.get(field)
    if not isinstance(inner, dict) or not sent.keys() <= _FIELDS[field] or knows(field):
        return False
    # The field of the other operation wraps a document only if that has the members of one: `config` is an honest name.
    return field == form or (len(inner) > 0 and all(map(knows, inner)))


def _is_a(value: Json, kind: type[bool | int]) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _remedy(name: str) -> str:
    return f"(If the configuration is to have a member {name}, describe it in the schema of the service.)"
