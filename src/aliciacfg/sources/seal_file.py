"""Sealing the secrets of an environment file in place, as SOPS does; comments and order stay."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from aliciacfg.documents import Json, escape, yaml_editor, yaml_reader
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.model import names
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.boxes import CannotOpen, PublicKey, is_sealed, seal_for, sealed_with
from aliciacfg.sources.layers import ACCESS, BASE, Sources

_VARIABLE = "holds ${…}, which the daemon fills in: seal the value that the variable has, or leave it"
_ELSEWHERE = "is a secret for some services only ({}): write it under services.<name> to have it sealed"
_OTHER_KEY = "is sealed with key {}, not with {}: it stays, and opens as long as the daemon keeps that key"
_MAX_LISTED = 3


@dataclass(frozen=True, slots=True)
class SealedFile:
    """An environment file after its secrets were sealed.

    Attributes:
        text: The file; the very same text where nothing had to be sealed.
        sealed: JSON Pointers, into the file, of what was sealed now.
        kept: Those of what was sealed before.
        notes: What was left alone and why.
    """

    text: str
    sealed: list[str]
    kept: list[str]
    notes: list[SourceProblem]


@dataclass(frozen=True, slots=True)
class _Secret:
    """A secret of a file: ``prefix + pointer`` in the file, ``pointer`` in the document of the service."""

    service: str
    prefix: str
    pointer: str
    value: str

    @property
    def place(self) -> str:
        return self.prefix + self.pointer


def file_environment(path: PurePath) -> str | None:
    """The only environment that an environment file speaks of; None for ``base.yaml``, which speaks of all.

    Raises:
        SourceError: The name is not one of an environment file.
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

    A secret under ``services.<name>`` opens in that service, in the file's environment (in any, for
    ``base.yaml``), at its place only; one under ``defaults`` in every service. Left alone are values that are
    sealed already, hold ``${…}`` or are empty, and in ``defaults`` what is not a secret for every service: in
    the others the daemon would refuse it. Doing it again changes nothing.

    Args:
        text: The file.
        path: Its name, which says the environment.
        sources: Whose schemas say what is a secret; names where a schema is silent.
        key: The daemon's public key.

    Raises:
        SourceError: With every problem: it is not an environment file, it does not parse, or a secret shares
            its text with others by an alias, which one sealed value cannot serve. Nothing was sealed then.
    """
    environment = file_environment(path)
    document = yaml_reader.load(text, file=str(path))
    result = SealedFile(text, [], [], [])
    boxes: dict[str, str] = {}

    def note(place: str, message: str) -> None:
        result.notes.append(SourceProblem(str(path), document.lines.get(place), f"{place} {message}", place))

    for place, services in _uneven(document.value, sources):
        listed = ", ".join(services[:_MAX_LISTED]) + (", …" if len(services) > _MAX_LISTED else "")
        note(place, _ELSEWHERE.format(listed))
    for secret in _secrets(document.value, sources):
        plain = yaml_reader.literal(secret.value)
        if is_sealed(secret.value):
            result.kept.append(secret.place)
            if doubt := _doubt(secret.value, key):
                note(secret.place, doubt)
        elif plain is None:
            note(secret.place, _VARIABLE)
        elif plain:
            boxes[secret.place] = seal_for(
                key, plain, service=secret.service, environment=environment, pointer=secret.pointer
            )
    if not boxes:
        return result
    return SealedFile(yaml_editor.replace_strings(text, boxes, file=str(path)), list(boxes), result.kept, result.notes)


def _doubt(value: str, key: PublicKey) -> str | None:
    """What is to be said of a value that was sealed before, if anything."""
    try:
        name = sealed_with(value)
    except CannotOpen as error:
        return str(error)
    return None if name == key.key_id else _OTHER_KEY.format(name, key.key_id)


def _secrets(document: Json, sources: Sources) -> Iterator[_Secret]:
    """Every secret that can be sealed where it stands, ``defaults`` first."""
    defaults = _by_service(document, sources)
    for pointer in _everywhere(defaults):
        yield _Secret("*", "/defaults", pointer, defaults[""][pointer])
    for name, patch in _section(document, "services").items():
        for pointer, value in _strings(sources.schema(name), patch).items():
            yield _Secret(name, f"/services/{escape(name)}", pointer, value)


def _uneven(document: Json, sources: Sources) -> Iterator[tuple[str, list[str]]]:
    """What stands open in ``defaults`` and is a secret for some services only: its place, and those services."""
    defaults = _by_service(document, sources)
    everywhere = _everywhere(defaults)
    services: dict[str, list[str]] = {}
    for name, secrets in defaults.items():
        for pointer, value in secrets.items():
            if pointer not in everywhere and yaml_reader.literal(value) and not is_sealed(value):
                services.setdefault(pointer, []).append(name or "those without a schema")
    for pointer, found in services.items():
        yield f"/defaults{pointer}", found


def _by_service(document: Json, sources: Sources) -> dict[str, dict[str, str]]:
    """The secrets of ``defaults`` as each service's schema sees them; under no name where there is none."""
    defaults = _section(document, "defaults")
    schemas = {"": sources.fallback, **sources.schemas}
    return {name: _strings(schema, defaults) for name, schema in schemas.items()}


def _everywhere(defaults: dict[str, dict[str, str]]) -> list[str]:
    return [pointer for pointer in defaults[""] if all(pointer in secrets for secrets in defaults.values())]


def _strings(schema: ServiceSchema, document: Json) -> dict[str, str]:
    """The secrets of a document by pointer, but for strings where a number belongs, as in ``max_tokens``."""
    return {
        place.pointer: place.value
        for place in schema.places(document)
        if isinstance(place.value, str) and place.sensitive and not place.numeric
    }


def _section(document: Json, name: str) -> dict[str, Json]:
    section = document.get(name) if isinstance(document, dict) else None
    return section if isinstance(section, dict) else {}
