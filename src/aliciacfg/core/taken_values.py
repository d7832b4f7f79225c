"""What a service takes over from a file of another program: open values, secrets, and a schema that describes them."""

from dataclasses import dataclass, field

from aliciacfg import documents
from aliciacfg.core.missing_secrets import as_patch
from aliciacfg.documents import Json, JsonObject, yaml_reader
from aliciacfg.schemas.schema_tree import has_secret_name
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.schemas.skeleton import schema_skeleton
from aliciacfg.sources.foreign_files import ForeignFile
from aliciacfg.sources.layers import Sources

_SETTINGS = "/settings"
_SECRET_LIST = "is a list with secrets in it: not taken; write it into a file of secrets, and use seal-file"  # noqa: S105 - a sentence


@dataclass(frozen=True, slots=True)
class TakenValues:
    """What is taken over, by JSON Pointer of the configuration.

    Attributes:
        values: The open values.
        secrets: The secrets, in plain text.
        names: What the file calls each of them.
        notes: What to look at, each with its place.
        schema: The text of a new schema; None if the service has one, or is to have none.
    """

    values: dict[str, Json] = field(default_factory=dict[str, Json])
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    names: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    schema: str | None = None


def take_over(
    foreign: ForeignFile, *, service: str, sources: Sources, with_schema: bool, prefix: str = ""
) -> TakenValues:
    """Sort the values of a file into open ones and secrets, at the places where the service has them.

    Args:
        foreign: The file.
        service: The service.
        sources: The files of the home. Where the service's schema names a variable, its value goes to that place.
        with_schema: Describe a service without a schema in a new one, in which addresses with a password are secrets.
        prefix: How the variables of this schema begin, if the file has none.
    """
    leaves = {pointer: value for pointer, value in documents.leaves(foreign.patch) if value != {}}
    own = sources.schemas.get(service)
    known = {} if own is None else _places_of_variables(own)
    places = {pointer: known.get(foreign.names[pointer], pointer) for pointer in leaves}
    values = {places[pointer]: value for pointer, value in leaves.items()}
    passwords = {places[pointer] for pointer in foreign.passwords if pointer in places}
    remarks = {places.get(remark.pointer, remark.pointer): remark for remark in foreign.remarks}
    schema, text = own or sources.fallback, None
    if own is None and with_schema:
        text = _skeleton(foreign, service, sources, {*schema.secrets(as_patch(values)), *passwords}, prefix)
        schema = ServiceSchema(_parsed(text), title=service)
    taken = TakenValues(names={places[pointer]: foreign.names[pointer] for pointer in leaves}, schema=text)
    secrets = schema.secrets(as_patch(values))
    for pointer, value in values.items():
        if pointer in secrets and isinstance(value, str):
            taken.secrets[pointer] = value
        elif any(place.startswith(f"{pointer}/") for place in secrets):
            taken.notes.append((pointer, _SECRET_LIST))
        elif pointer in passwords:
            message = f"{remarks.pop(pointer).message}, and no schema marks it with x-sensitive: not taken"
            taken.notes.append((pointer, message))
        else:
            taken.values[pointer] = value
    for pointer, remark in remarks.items():
        fate = "" if remark.taken else ": not taken"
        if pointer in passwords and pointer in taken.secrets:
            fate = ": taken as a secret, as a whole"
        taken.notes.append((pointer, remark.message + fate))
    return taken


def _skeleton(foreign: ForeignFile, service: str, sources: Sources, secrets: set[str], prefix: str) -> str:
    # Secrets that are not taken are set later, and have their variables too.
    left = {remark.pointer for remark in foreign.remarks if not remark.taken and has_secret_name(remark.pointer)}
    left = {pointer for pointer in left if pointer.startswith(f"{_SETTINGS}/") and _is_member(foreign, pointer)}
    secrets |= left
    settings = documents.merge(foreign.patch, as_patch(dict.fromkeys(left, ""))).get("settings")
    return schema_skeleton(
        service,
        sources.with_default_settings(settings if isinstance(settings, dict) else {}),
        secrets={pointer.removeprefix(_SETTINGS) for pointer in secrets},
        variables={at.removeprefix(_SETTINGS): name for at, name in foreign.names.items() if foreign.variables},
        prefix=prefix,
    )


def _is_member(foreign: ForeignFile, pointer: str) -> bool:
    """Return whether a place is one of an object that is taken over."""
    return isinstance(documents.find(foreign.patch, pointer.rpartition("/")[0]), dict)


def _parsed(text: str) -> JsonObject:
    value = yaml_reader.load(text, file="schema").value
    return value if isinstance(value, dict) else {}


def _places_of_variables(schema: ServiceSchema) -> dict[str, str]:
    """Return the places that the service's own schema gives to environment variables, by their names."""
    found: dict[str, str] = {}

    def walk(node: Json, pointer: str) -> None:
        properties = node.get("properties") if isinstance(node, dict) else None
        for name, inner in (properties if isinstance(properties, dict) else {}).items():
            place = f"{pointer}/{documents.escape(name)}"
            if variable := schema.variable(place):
                found.setdefault(variable, place)
            walk(inner, place)

    walk(schema.own, "")
    return found
