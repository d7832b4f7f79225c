"""The secrets that an environment lacks: which of them the program can make, and which a person has to give."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from aliciacfg.core.composer import Composer
from aliciacfg.documents import Json, JsonObject, find, has, merge, parse_pointer
from aliciacfg.errors import Finding, InvalidDocument, OperationError
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sources.broker_accounts import generate
from aliciacfg.sources.layers import Environment

_OWN = re.compile(r"password|secret", re.IGNORECASE)
# As keys and tokens do, they come from the provider of the service.
_OTHERS = re.compile(r"(?:client|app|api|consumer)[_-]?secret", re.IGNORECASE)
_ISSUED_ELSEWHERE = "is issued by the provider of the service"


@dataclass(frozen=True, slots=True)
class Needed:
    """A secret that is missing and cannot be made.

    Attributes:
        service: The service that lacks it.
        pointer: JSON Pointer of its place.
        reason: Why it cannot be made.
    """

    service: str
    pointer: str
    reason: str


@dataclass(frozen=True, slots=True)
class MissingSecrets:
    """The required secrets of an environment at whose places there is nothing.

    Attributes:
        made: New random values by service and JSON Pointer, 32 characters each.
        needed: Those that cannot be made.
    """

    made: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    needed: list[Needed] = field(default_factory=list[Needed])


def find_missing(
    composer: Composer,
    environment: Environment,
    *,
    services: Collection[str] | None = None,
    standing: Collection[tuple[str, str]] = (),
) -> MissingSecrets:
    """Find the required secrets that an environment lacks, and make those that can be made.

    A service whose sealed values do not open is left out: what it lacks is unknown.

    Args:
        composer: Composes the configurations of the files; sealed values have to open.
        environment: The environment.
        services: Only these services; None for all.
        standing: Places, by service and JSON Pointer, at which a change made at run time has something.
    """
    result = MissingSecrets()
    for service in sorted(environment.services if services is None else services):
        made, needed = _of_service(
            composer, environment.name, service, {at for name, at in standing if name == service}
        )
        if made:
            result.made[service] = made
        result.needed.extend(needed)
    return result


def can_be_made(pointer: str) -> bool:
    """Return whether the home itself decides on a secret, by its name; otherwise another party issues it."""
    name = parse_pointer(pointer)[-1]
    return _OWN.search(name) is not None and _OTHERS.search(name) is None


def lacks_secret(schema: ServiceSchema, document: JsonObject, pointer: str) -> bool:
    """Return whether there is nothing at a place of a document, and a string would be a secret there."""
    if has(document, pointer) or not isinstance(find(document, _parent(pointer)), dict):
        return False
    return pointer in schema.secrets(merge(document, as_patch({pointer: "x"})))


def as_patch(values: Mapping[str, Json]) -> JsonObject:
    """Return the merge patch that sets values by JSON Pointer; none of them is the whole document."""
    patch: JsonObject = {}
    for pointer, value in values.items():
        *outer, last = parse_pointer(pointer)
        inner: JsonObject = {last: value}
        for token in reversed(outer):
            inner = {token: inner}
        patch = merge(patch, inner)
    return patch


def _of_service(
    composer: Composer, environment: str, service: str, standing: set[str]
) -> tuple[dict[str, str], list[Needed]]:
    made: dict[str, str] = {}
    needed: dict[str, Needed] = {}
    # A secret may be required only because another one is there, so a round may find more.
    while True:
        fresh = [
            pointer
            for pointer in _lacking(composer, environment, service, made)
            if pointer not in {*made, *needed, *standing}
        ]
        if not fresh:
            return made, list(needed.values())
        for pointer in fresh:
            if not can_be_made(pointer):
                needed[pointer] = Needed(service, pointer, _ISSUED_ELSEWHERE)
                continue
            made[pointer] = generate()
            if problem := _problem_at(composer, environment, service, made, pointer):
                del made[pointer]
                needed[pointer] = Needed(service, pointer, problem)


def _lacking(composer: Composer, environment: str, service: str, made: dict[str, str]) -> Iterator[str]:
    """Yield the places of required secrets at which there is nothing."""
    schema = composer.sources.schema(service)
    for finding, document in _findings(composer, environment, service, made):
        if lacks_secret(schema, document, finding.pointer):
            yield finding.pointer


def _problem_at(composer: Composer, environment: str, service: str, made: dict[str, str], pointer: str) -> str | None:
    """Return why a made value is not valid at its place, or None."""
    for finding, _ in _findings(composer, environment, service, made):
        if finding.pointer == pointer:
            return finding.in_full.message
    return None


def _findings(
    composer: Composer, environment: str, service: str, made: dict[str, str]
) -> Iterator[tuple[Finding, JsonObject]]:
    """Yield what is wrong with a configuration of the files and made values, each with the document."""
    patch = as_patch(dict(made))
    try:
        document = composer.merged(environment, service, patch)
    except OperationError:
        return
    try:
        composer.effective(environment, service, document)
    except InvalidDocument as error:
        yield from ((finding, document) for finding in error.findings)
    except OperationError:
        return


def _parent(pointer: str) -> str:
    return pointer.rpartition("/")[0]
