"""Finds the secrets that stand in the open in an environment file: what ``seal_file`` seals, or leaves for people."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from aliciacfg.documents import Json, JsonObject, escape, walk_strings, yaml_reader
from aliciacfg.model.redaction import REDACTED
from aliciacfg.schemas.schema_tree import node_at
from aliciacfg.sealing.boxes import is_sealed, resembles_sealed
from aliciacfg.sources import seal_file
from aliciacfg.sources.foreign_files import holds_password
from aliciacfg.sources.layers import Sources

if TYPE_CHECKING:
    from aliciacfg.schemas.service_schema import ServiceSchema

_MAX_LISTED = 3


@dataclass(frozen=True, slots=True)
class OpenSecret:
    """A secret in the open.

    Attributes:
        place: JSON Pointer in the file.
        line: 1-based line in the file; None if it is not known.
        service: The service that has it; None in ``defaults``.
        pointer: JSON Pointer in the configuration.
        what: What stands there, to follow "holds".
        first: What has to be done before ``seal-file`` seals it; None if that does.
        marked: Whether the schema, or its name, says that it is a secret.
    """

    place: str
    line: int | None
    service: str | None
    pointer: str
    what: str = "a secret in the open"
    first: str | None = None
    marked: bool = True


def open_secrets(text: str, *, path: PurePath, sources: Sources) -> list[OpenSecret]:
    """Return the secrets of an environment file that stand there in the open, in the order of the file's lines.

    Those are the strings that the schemas, or the names of members, make secrets, and addresses with a password in
    them, unless a schema says that they are none. What is sealed, empty, or contains a variable is none; the default of
    a variable, as in ``${NAME:-text}``, is meant to be read.

    Args:
        text: The text of the file.
        path: The file.
        sources: The schemas.

    Raises:
        SourceError: The file is not an environment file, or not valid.
    """
    seal_file.file_environment(path)
    document = yaml_reader.load(text, file=str(path))
    defaults, services = seal_file.sections(document, str(path))
    found: dict[str, OpenSecret] = {}
    for secret in _all(defaults, services, sources):
        found.setdefault(secret.place, replace(secret, line=document.lines.get(secret.place)))
    return sorted(found.values(), key=lambda secret: (secret.line or 0, secret.place))


def _all(defaults: JsonObject, services: JsonObject, sources: Sources) -> Iterator[OpenSecret]:
    shared = seal_file.secrets_by_schema(defaults, sources)
    for place, some in seal_file.secret_for_some(shared):
        named = ", ".join(some[:_MAX_LISTED]) + (", …" if len(some) > _MAX_LISTED else "")
        first = f"it is one for some services only ({named}), so write it under services.<name>"
        yield OpenSecret(place, None, None, place.removeprefix("/defaults"), first=first)
    for secret in seal_file.secrets_in(shared, services, sources):
        plain = yaml_reader.literal(secret.value)
        if plain is not None and _is_open(plain):
            yield OpenSecret(secret.place, None, None if secret.service == "*" else secret.service, secret.pointer)
    yield from _addresses(defaults, services, sources)


def _is_open(plain: str) -> bool:
    return bool(plain) and plain != REDACTED and not is_sealed(plain) and not resembles_sealed(plain, at_secret=True)


def _addresses(defaults: JsonObject, services: JsonObject, sources: Sources) -> Iterator[OpenSecret]:
    """Yield the addresses with a password that no schema says anything about."""
    sections: list[tuple[str | None, str, Json, ServiceSchema]] = [(None, "/defaults", defaults, sources.fallback)]
    sections += [(name, f"/services/{escape(name)}", patch, sources.schema(name)) for name, patch in services.items()]
    for service, prefix, patch, schema in sections:
        for pointer, text in walk_strings(patch):
            plain = yaml_reader.literal(text)
            if plain is not None and holds_password(plain) and node_at(schema.tree, pointer).marked is None:
                where = "the schema" if service is None else f"the schema of {service}"
                yield OpenSecret(
                    prefix + pointer,
                    None,
                    service,
                    pointer,
                    what="an address with a password in the open",
                    first=f"mark it with x-sensitive: true in {where}",
                    marked=False,
                )
