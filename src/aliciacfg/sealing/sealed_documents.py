"""Sealing what is stored anew with the key that seals now."""

from dataclasses import dataclass

from aliciacfg import documents
from aliciacfg.errors import Problem
from aliciacfg.sealing.boxes import CannotOpen, Keyring, is_sealed, sealed_with


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
