"""Refuses configurations that hold too much, and says by which setting more is allowed."""

from collections.abc import Iterable
from itertools import islice

from aliciacfg import documents
from aliciacfg.documents import DocumentLimits, JsonObject
from aliciacfg.errors import Problem, TooLarge
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.sealed_documents import sealed_pointers


class Bounds:
    """Compares documents of services with the limits."""

    def __init__(self, limits: DocumentLimits) -> None:
        self._limits = limits

    def check_count(self, service: str, document: JsonObject) -> None:
        """Check the numbers of nodes and of sealed values, before anything walks or opens them.

        Raises:
            TooLarge: There are too many; the problem names the place.
        """
        self.check_nodes(service, document)
        self.check_secrets(service, sealed_pointers(document))

    def check_nodes(self, service: str, document: JsonObject, *, at_most: int | None = None) -> None:
        """Check the number of nodes.

        Args:
            service: The service.
            document: Its document, or a part of it.
            at_most: The document has no more nodes than this, if that is known.

        Raises:
            TooLarge: There are too many; the problem names the place.
        """
        allowed = self._limits.max_nodes
        place = documents.excess_nodes(document, allowed) if at_most is None or at_most > allowed else None
        if place is not None:
            raise _too_many(service, place, "members and items", allowed, "ALICIACFG_MAX_CONFIG_NODES")

    def check_marked(self, service: str, document: JsonObject, schema: ServiceSchema) -> None:
        """Check the number of secrets that a schema marks in a document.

        Raises:
            TooLarge: There are too many; the problem names the place.
        """
        # Each is a node: hardly any document has so many, and only such a one has to be walked.
        if documents.excess_nodes(document, self._limits.max_secrets) is not None:
            self.check_secrets(service, schema.secrets(document))

    def check_secrets(self, service: str, pointers: Iterable[str]) -> None:
        """Check the number of secrets; each is sealed by itself, again and again.

        Raises:
            TooLarge: There are too many; the problem names the place.
        """
        allowed = self._limits.max_secrets
        beyond = next(islice(pointers, allowed, None), None)
        if beyond is not None:
            raise _too_many(service, beyond, "secrets", allowed, "ALICIACFG_MAX_SECRETS")

    def check_size(self, service: str, document: JsonObject) -> None:
        """Check the size of a document as JSON.

        Raises:
            TooLarge: It is too large.
        """
        size = len(documents.encode(document))
        if size > self._limits.max_bytes:
            raise TooLarge(
                f"The configuration of {service} is {size} bytes; at most {self._limits.max_bytes} are allowed "
                "(ALICIACFG_MAX_CONFIG_BYTES)."
            )


def _too_many(service: str, pointer: str, what: str, allowed: int, setting: str) -> TooLarge:
    message = f"has more than {allowed} {what} up to here; at most {allowed} are allowed ({setting})"
    return TooLarge(
        f"The configuration of {service} has too many {what}: at most {allowed} are allowed ({setting}).",
        [Problem(pointer, message)],
    )
