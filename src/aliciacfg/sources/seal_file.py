"""Seals the secrets of an environment file in place, as SOPS does; comments and order stay."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from aliciacfg.documents import Json, JsonObject, escape, type_name, yaml_editor, yaml_reader
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.model import names
from aliciacfg.model.redaction import REDACTED
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.boxes import (
    CannotOpen,
    PublicKey,
    is_sealed,
    resembles_sealed,
    seal_for,
    sealed_with,
)
from aliciacfg.sources.layers import ACCESS, BASE, Sources

_VARIABLE = "contains ${…}, which the daemon replaces: seal the value of the variable, or leave it as it is"
_STAND_IN = "only stands for a secret (*** or a damaged sealed value): write the secret itself"
_ELSEWHERE = "is a secret for some services only ({}): write it under services.<name> to seal it"
_OTHER_KEY = "is sealed with key {}, not with {}: it is left, and opens as long as the daemon keeps that key"
_MAX_LISTED = 3


@dataclass(frozen=True, slots=True)
class SealedFile:
    """An environment file after its secrets were sealed.

    Attributes:
        text: The text of the file; unchanged if nothing had to be sealed.
        sealed: JSON Pointers in the file of the values that were sealed now.
        kept: JSON Pointers in the file of the values that had been sealed before.
        notes: The values that were not sealed, and why.
        plain: JSON Pointers in the file of the secrets among them that stand there in plain text.
        defaults: JSON Pointers in the file of those with ``${…}`` that have a default or another part in plain text.
    """

    text: str
    sealed: list[str]
    kept: list[str]
    notes: list[SourceProblem]
    plain: list[str]
    defaults: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class FileSecret:
    """A secret of a file.

    Attributes:
        service: Its service; ``*`` for a secret in ``defaults``.
        prefix: JSON Pointer in the file of the service's section, or of ``defaults``.
        pointer: JSON Pointer in the service's document.
        value: The value in the file.
    """

    service: str
    prefix: str
    pointer: str
    value: str

    @property
    def place(self) -> str:
        """JSON Pointer in the file."""
        return self.prefix + self.pointer


def file_environment(path: PurePath) -> str | None:
    """Return the environment to which an environment file applies; None for ``base.yaml``, which applies to all.

    Raises:
        SourceError: The name is not that of an environment file.
    """
    stem = path.stem
    if path.suffix != ".yaml" or stem == ACCESS:
        message = "is not an environment file; those are base.yaml, <environment>.yaml and <environment>-secrets.yaml"
        raise SourceError([SourceProblem(str(path), None, message)])
    if stem == BASE:
        return None
    environment = stem.removesuffix(names.SECRETS_SUFFIX)
    if problem := names.environment_problem(environment):
        raise SourceError([SourceProblem(str(path), None, f"{problem}; rename the file")])
    return environment


def seal_file(text: str, *, path: PurePath, sources: Sources, key: PublicKey) -> SealedFile:
    """Seal every secret of an environment file.

    A secret under ``services.<name>`` is bound to that service, to the file's environment (to none for ``base.yaml``)
    and to its place; a secret under ``defaults`` is bound to its place, in every service. Values that are sealed
    already, contain ``${…}`` or are empty are not sealed. In ``defaults`` only secrets of every service are sealed,
    because the daemon refuses a sealed value where the schema has no secret. Sealing a file again changes nothing.

    Args:
        text: The text of the file.
        path: The file, whose name contains the environment.
        sources: The schemas, which define the secrets; the names of members do where a schema has no annotation.
        key: The daemon's public key.

    Raises:
        SourceError: The file is not an environment file or not valid, a section is not a mapping, or aliases repeat a
            secret, which would need several sealed values. Nothing is sealed then.
    """
    environment = file_environment(path)
    document = yaml_reader.load(text, file=str(path))
    defaults, services = sections(document, str(path))
    result = SealedFile(text, [], [], [], [])
    boxes: dict[str, str] = {}

    def note(place: str, message: str) -> None:
        result.notes.append(SourceProblem(str(path), document.lines.get(place), f"{place} {message}", place))

    shared = secrets_by_schema(defaults, sources)
    for place, some in secret_for_some(shared):
        result.plain.append(place)
        note(place, _ELSEWHERE.format(", ".join(some[:_MAX_LISTED]) + (", …" if len(some) > _MAX_LISTED else "")))
    for secret in secrets_in(shared, services, sources):
        plain = yaml_reader.literal(secret.value)
        if is_sealed(secret.value):
            result.kept.append(secret.place)
            if remark := _note_on_sealed(secret.value, key):
                note(secret.place, remark)
        elif plain == REDACTED or resembles_sealed(secret.value, at_secret=True):
            note(secret.place, _STAND_IN)
        elif plain is None:
            note(secret.place, _VARIABLE)
            result.defaults.extend(partly_plain(secret))
        elif plain:
            boxes[secret.place] = seal_for(
                key, plain, service=secret.service, environment=environment, pointer=secret.pointer
            )
    if not boxes:
        return result
    return replace(result, text=yaml_editor.replace_strings(text, boxes, file=str(path)), sealed=list(boxes))


def partly_plain(secret: FileSecret) -> Iterator[str]:
    """Yield the place of a secret with variables if a default or another part of it says something by itself."""
    beside = yaml_reader.without_variables(secret.value)
    if beside and not is_sealed(beside):
        yield secret.place


def _note_on_sealed(value: str, key: PublicKey) -> str | None:
    """Return a note on a value that was sealed before, or None."""
    try:
        name = sealed_with(value)
    except CannotOpen as error:
        return str(error)
    return None if name == key.key_id else _OTHER_KEY.format(name, key.key_id)


def secrets_in(shared: Mapping[str, Mapping[str, str]], services: JsonObject, sources: Sources) -> Iterator[FileSecret]:
    """Yield every secret that can be sealed in its place, those in ``defaults`` first."""
    for pointer in _everywhere(shared):
        yield FileSecret("*", "/defaults", pointer, shared[""][pointer])
    for name, patch in services.items():
        for pointer, value in _strings(sources.schema(name), patch).items():
            yield FileSecret(name, f"/services/{escape(name)}", pointer, value)


def secret_for_some(shared: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the plain values in ``defaults`` that are secrets of some services only, with these services."""
    everywhere = _everywhere(shared)
    services: dict[str, list[str]] = {}
    for name, secrets in shared.items():
        for pointer, value in secrets.items():
            if pointer not in everywhere and yaml_reader.literal(value) and not is_sealed(value):
                services.setdefault(pointer, []).append(name or "those without a schema")
    for pointer, found in services.items():
        yield f"/defaults{pointer}", found


def secrets_by_schema(defaults: JsonObject, sources: Sources) -> dict[str, dict[str, str]]:
    """Return the secrets in ``defaults`` for each service's schema; the empty name is for services without a schema."""
    schemas = {"": sources.fallback, **sources.schemas}
    return {name: _strings(schema, defaults) for name, schema in schemas.items()}


def _everywhere(shared: Mapping[str, Mapping[str, str]]) -> list[str]:
    return [pointer for pointer in shared[""] if all(pointer in secrets for secrets in shared.values())]


def _strings(schema: ServiceSchema, document: Json) -> dict[str, str]:
    """Return the secrets of a document by pointer, except for strings where the schema expects a number."""
    return {
        place.pointer: place.value
        for place in schema.places(document)
        if isinstance(place.value, str) and place.sensitive and not place.numeric
    }


def sections(document: yaml_reader.YamlDocument, file: str) -> tuple[JsonObject, JsonObject]:
    """Return the sections ``defaults`` and ``services``; an empty one is null in YAML.

    Raises:
        SourceError: The file or a section is not a mapping.
    """

    def mapping(value: Json, pointer: str) -> JsonObject:
        if value is None:
            return {}
        if not isinstance(value, dict):
            message = f"found {type_name(value)} at {pointer or 'the top'}; expected a mapping"
            raise SourceError([SourceProblem(file, document.lines.get(pointer), message, pointer)])
        return value

    top = mapping(document.value, "")
    return mapping(top.get("defaults"), "/defaults"), mapping(top.get("services"), "/services")
