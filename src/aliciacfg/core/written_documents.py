"""What writers send: opened, completed from what stands there, and validated with the composer's rules."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from aliciacfg import documents
from aliciacfg.core.composer import Composer, Effective, filled_in
from aliciacfg.documents import JsonObject
from aliciacfg.errors import InvalidDocument, Problem
from aliciacfg.model.redaction import REDACTED
from aliciacfg.schemas.inspection import Inspection, Inspections, inspect
from aliciacfg.schemas.near_misses import suggestions
from aliciacfg.sealing.boxes import Keyring, placeholder
from aliciacfg.sealing.redactions import exact_redactions, redaction_sources
from aliciacfg.sealing.sealed_documents import (
    OpenedDocument,
    form_problems,
    may_be_sealed,
    open_document,
    redact,
    sealed_pointers,
)

# Opening them takes two milliseconds, in which nothing else would go on.
_MANY_SEALED = 20


@dataclass(frozen=True, slots=True)
class Keepable:
    """What a writer that sends ``***`` can keep.

    Attributes:
        document: The current configuration, secrets in plain text.
        secrets: Its secrets by JSON Pointer.
    """

    document: JsonObject
    secrets: Mapping[str, str]


class WrittenDocuments:
    """Checks what writers send, with the files of one moment."""

    def __init__(self, composer: Composer, keyring: Keyring) -> None:
        """Hold what composes from these files, and what opens sealed values."""
        self._composer = composer
        self._keyring = keyring
        self._inspections = Inspections()

    def check(
        self,
        environment: str,
        service: str,
        document: JsonObject,
        *,
        sent: OpenedDocument,
        current: Effective | None,
        overlay: JsonObject | None,
        kept: Mapping[str, str],
        stored: bool = False,
        opaque: bool = False,
    ) -> Effective:
        """Validate a whole configuration that results from what a writer sends.

        Args:
            environment: The environment of the configuration.
            service: The service of the configuration.
            document: The configuration; redactions that were sent are still in it.
            sent: The part of it that the writer sent, which ``bounds`` did not refuse, as ``open`` returned it. Only
                there does ``***`` stand for a current secret.
            current: The effective configuration now; None if it cannot be composed.
            overlay: The overlay now.
            kept: Secrets of the configuration now, by JSON Pointer; see ``effective``.
            stored: Whether ``sent`` comes from the store, where each sealed value is a secret even if the schema does
                not mark it now, and no ``***`` stands for another value.
            opaque: Whether the outcome must not depend on any secret that the writer may not know: those that it keeps
                and those that it sends sealed. Each counts as a value that meets every rule.

        Raises:
            InvalidDocument: The configuration is invalid; ``findings`` lists everything.
            TooLarge: The configuration is larger than allowed, or holds more nodes or secrets.
        """
        # A whole configuration was counted before it was opened.
        seen = self._inspected(
            environment, service, document, counted=document is sent.document, keep=current is not None
        )
        keepable = self.keepable(environment, service, current, overlay, kept)
        redacted = [] if stored else exact_redactions(sent.document)
        whole, moved = self.restore_redacted(service, document, keepable, kept, redacted)
        boxes = () if stored else sent.secrets
        if not opaque:
            kept = {**kept, **moved, **(sent.secrets if stored else {})}
            seen = seen if whole is document else None
            return self._composer.validate(environment, service, whole, boxes=boxes, kept=kept, limited=True, seen=seen)
        unknown = {pointer: placeholder() for pointer in (*moved, *sent.secrets)}
        return self._composer.validate(
            environment,
            service,
            documents.replace_strings(whole, unknown),
            boxes=boxes,
            kept={pointer: unknown.get(pointer, "") for pointer in (*kept, *moved)},
            limited=True,
            opaque=unknown,
        )

    def _inspected(
        self, environment: str, service: str, document: JsonObject, *, counted: bool, keep: bool
    ) -> Inspection:
        """Return what a write has to know of a whole document.

        Args:
            environment: The environment of the configuration.
            service: The service of the configuration.
            document: The configuration.
            counted: Whether its nodes were counted.
            keep: Whether the configuration exists, so that what is found helps the next write; a caller may ask for any
                name.

        Raises:
            InvalidDocument: It has a shape that no configuration may have.
            TooLarge: It holds more nodes or sealed values than allowed.
        """
        filled, _ = filled_in(environment, service, document)
        tree = self._composer.sources.schema(service).tree
        found = self._inspections.of((environment, service), tree, filled) if keep else inspect(tree, filled)
        if not counted:
            # Nearly every document is within the limits, and then nothing has to be looked at again.
            self._composer.bounds.check_nodes(service, document, at_most=found.nodes + ("version" in document))
            self._composer.bounds.check_secrets(service, sealed_pointers(document))
        if not found.sound or not isinstance(document.get("version", ""), str):
            self._composer.check_shape(service, document)
        return found

    def restore_redacted(
        self,
        service: str,
        wanted: JsonObject,
        keepable: Keepable,
        kept: Mapping[str, str],
        redacted: Collection[str],
    ) -> tuple[JsonObject, dict[str, str]]:
        """Replace the redactions in a document by the current secrets.

        Args:
            service: The service of the configuration.
            wanted: The document that the writer sends.
            keepable: The secrets of the current configuration.
            kept: Those of them that stay secrets though the schema may not mark them, by JSON Pointer.
            redacted: JSON Pointers of the redactions that the writer sent.

        Returns:
            The whole configuration; and the restored secrets by JSON Pointer, which may have moved with an item of an
            array.

        Raises:
            InvalidDocument: There is no current secret for a redaction.
        """
        if not redacted:
            return wanted, {}
        schema, known = self._composer.sources.schema(service), keepable.secrets
        shown = redact(keepable.document, known)
        found: dict[str, str] = {}
        problems: list[Problem] = []
        # Elsewhere *** is an ordinary string.
        asked = [pointer for pointer in redacted if pointer in kept or schema.is_secret(wanted, pointer)]
        for pointer, source in redaction_sources(asked, wanted, shown).items():
            if source is not None and source in known:
                found[pointer] = known[source]
            else:
                problems.append(Problem(pointer, f"found '{REDACTED}', but there is no value to keep; send one"))
        if problems:
            raise InvalidDocument(
                f"The configuration of {service} is incomplete", self._composer.findings(service, problems)
            )
        return documents.replace_strings(wanted, found), found

    def keepable(
        self,
        environment: str,
        service: str,
        current: Effective | None,
        overlay: JsonObject | None,
        kept: Mapping[str, str],
    ) -> Keepable:
        """Return the document whose secrets a writer can keep; ``kept`` are some of them.

        It is the effective configuration, or if that cannot be composed, the files with the overlay, where values that
        do not open are empty.

        Raises:
            InvalidDocument: It cannot be composed because of what is in the files.
        """
        schema = self._composer.sources.schema(service)
        if current is not None:
            marked = current.secrets if current.schema is schema else schema.secrets(current.document)
            return Keepable(current.document, {**marked, **kept})
        merged = self._composer.merged(environment, service, overlay)
        document = documents.replace_strings(merged, dict.fromkeys(sealed_pointers(merged), ""))
        return Keepable(document, {**schema.secrets(document), **kept})

    async def open(self, environment: str, service: str, document: JsonObject) -> OpenedDocument:
        """Open every sealed value of a document, or of a patch, that a writer sent; in a thread if they are many.

        Raises:
            InvalidDocument: A value does not open, or only resembles a sealed value.
        """
        if not may_be_sealed(document):
            return OpenedDocument(document, {}, [])
        opening = partial(open_document, document, self._keyring, service=service, environment=environment)
        many = len(sealed_pointers(document)) >= _MANY_SEALED
        opened = await asyncio.to_thread(opening) if many else opening()
        problems = [*opened.problems, *form_problems(document, opened, self._composer.sources.schema(service))]
        if problems:
            message = f"The configuration of {service} contains sealed values that do not open"
            raise InvalidDocument(message, self._composer.findings(service, problems))
        return opened

    def near_misses(self, service: str, pointers: Iterable[str]) -> Mapping[str, str]:
        """Return where unknown members probably belong, by the pointers of those that are near misses."""
        return suggestions(self._composer.sources.schema(service).tree, pointers)

    def unknown(self, environment: str, service: str, effective: Effective) -> list[str]:
        """Return the JSON Pointers of members that no schema of a service describes, outermost first."""
        seen = self._inspections.last((environment, service))
        if (
            seen is not None
            and seen.normal is effective.document
            and effective.schema is self._composer.sources.schema(service)
        ):
            return seen.unknown
        return self._composer.sources.schema(service).unknown(effective.document)
