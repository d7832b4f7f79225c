"""Sealing what is stored anew with the key that seals now."""

import hashlib
from dataclasses import dataclass

import msgspec

from aliciacfg import documents
from aliciacfg.documents import JsonObject
from aliciacfg.errors import Problem
from aliciacfg.model.records import Record
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.boxes import REDACTED, CannotOpen, Keyring, is_sealed, sealed_with


@dataclass(frozen=True, slots=True)
class Resealed:
    """A document after it was sealed anew.

    Attributes:
        document: The document; the very same bytes where nothing had to be sealed anew.
        pointers: What was sealed anew.
        left: What stays as it is because it does not open, and why.
    """

    document: bytes
    pointers: list[str]
    left: list[Problem]


def reseal(document: bytes, keyring: Keyring, *, service: str, environment: str) -> Resealed:
    """Seal every sealed value of a stored document with the current key, bound to its place.

    What the current key sealed already is left alone, so that a rotation that was interrupted is completed by
    doing it again. Everything but the sealed values stays as it is, the order of members too.

    Args:
        document: A configuration or an overlay as compact JSON.
        keyring: Opens with every key, seals with the current one.
        service: The service whose document it is.
        environment: The environment it is in.

    Raises:
        InvalidRequest: It is not JSON.
    """
    content = documents.decode(document)
    boxes: dict[str, str] = {}
    left: list[Problem] = []
    for pointer, value in documents.walk_strings(content):
        if not is_sealed(value):
            continue
        try:
            plain = keyring.open(value, service=service, environment=environment, pointer=pointer)
        except CannotOpen as error:
            left.append(Problem(pointer, str(error)))
            continue
        if sealed_with(value) != keyring.current:
            boxes[pointer] = keyring.seal(plain, service=service, environment=environment, pointer=pointer)
    if not boxes:
        return Resealed(document, [], left)
    return Resealed(documents.encode(documents.replace_strings(content, boxes)), list(boxes), left)


def open_record(record: Record, keyring: Keyring) -> tuple[JsonObject, list[Problem]]:
    """The document of a revision without ``version``, its secrets in the open, and which of them do not open."""
    document = _stored(record)
    document.pop("version", None)
    opened: dict[str, str] = {}
    problems: list[Problem] = []
    for pointer, value in documents.walk_strings(document):
        if is_sealed(value):
            try:
                opened[pointer] = keyring.open(
                    value, service=record.service, environment=record.environment, pointer=pointer
                )
            except CannotOpen as error:
                opened[pointer] = REDACTED
                problems.append(Problem(pointer, str(error)))
    return documents.replace_strings(document, opened), problems


def sealed_document(record: Record) -> JsonObject:
    """The document of a revision without ``version``, its secrets sealed as they are stored."""
    document = _stored(record)
    document.pop("version", None)
    return document


def seal_further(record: Record, schema: ServiceSchema, keyring: Keyring) -> Record | None:
    """A revision with everything sealed that a schema calls secret; None where that is so already.

    Its checksum is another one: the old one had the secret in the open, and would let it be guessed.
    """
    if record.deleted:
        return None
    document, _ = open_record(record, keyring)
    sealed = set(sealed_pointers(record))
    secrets = schema.secrets(document)
    fresh = secrets.keys() - sealed
    if not fresh:
        return None
    boxes = {
        pointer: keyring.seal(secrets[pointer], service=record.service, environment=record.environment, pointer=pointer)
        for pointer in fresh
    }
    stored = documents.replace_strings({**sealed_document(record), "version": record.version}, boxes)
    known = secrets | {pointer: str(documents.find(document, pointer)) for pointer in sealed}
    return msgspec.structs.replace(
        record,
        config=documents.canonical(stored),
        checksum=checksum(keyring, record.service, document, known),
    )


def sealed_pointers(record: Record) -> list[str]:
    """Where a revision holds secrets."""
    return [pointer for pointer, value in documents.walk_strings(_stored(record)) if is_sealed(value)]


def redact_sealed(record: Record) -> JsonObject:
    """The document of a revision as any reader may see it, ``version`` included."""
    document = _stored(record)
    hidden = {pointer: REDACTED for pointer, value in documents.walk_strings(document) if is_sealed(value)}
    return documents.replace_strings(document, hidden)


def _stored(record: Record) -> JsonObject:
    return msgspec.json.decode(record.config)


def checksum(keyring: Keyring, service: str, document: JsonObject, secrets: dict[str, str]) -> str:
    """SHA-256 in hex of the canonical JSON of a document without ``version``.

    Each secret counts as its keyed digest, so that the checksum neither tells it nor changes with its box.
    """
    digests = {pointer: keyring.digest(value, service=service, pointer=pointer) for pointer, value in secrets.items()}
    return hashlib.sha256(documents.canonical(documents.replace_strings(document, digests))).hexdigest()
