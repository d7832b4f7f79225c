"""Composes effective configurations from files and overlays, validates them, and derives overlays from them.

It uses the files and keys of one moment, and neither stores nor publishes anything.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from aliciacfg import documents
from aliciacfg.core.bounds import Bounds
from aliciacfg.core.shared_defaults import SharedDefaults
from aliciacfg.documents import DocumentLimits, Json, JsonObject
from aliciacfg.errors import Finding, InvalidDocument, Problem
from aliciacfg.model import versions
from aliciacfg.model.redaction import REDACTED
from aliciacfg.schemas.inspection import Inspection, Inspections, inspect
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.schemas.validation_messages import kind
from aliciacfg.sealing.boxes import Keyring, placeholder
from aliciacfg.sealing.redactions import exact_redactions, redaction_sources
from aliciacfg.sealing.sealed_documents import (
    MissingKey,
    OpenedDocument,
    checksum,
    form_problems,
    may_be_sealed,
    open_document,
    redact,
    sealed_pointers,
)
from aliciacfg.sources.layers import Environment, Layer, Sources

MISPLACED_SEALED_VALUE = (
    "found a sealed value; it is allowed only where the schema has a secret, because it would be shown here"
)


# Opening them takes two milliseconds, in which nothing else would go on.
_MANY_SEALED = 20


@dataclass(frozen=True, slots=True)
class Effective:
    """A valid effective configuration, with its secrets in plain text.

    Attributes:
        document: The configuration without ``version``, which the daemon assigns.
        secrets: The secrets of ``document`` by JSON Pointer.
        checksum: The checksum, as ``sealed_documents.checksum`` computes it.
        requested_version: The ``version`` that the files or the writer ask for, if any.
        schema: The schema that it was validated with: what this marks is in ``secrets``.
    """

    document: JsonObject
    secrets: dict[str, str]
    checksum: str
    requested_version: str | None
    schema: ServiceSchema = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Keepable:
    """What a writer that sends ``***`` can keep.

    Attributes:
        document: The current configuration, secrets in plain text.
        secrets: Its secrets by JSON Pointer.
    """

    document: JsonObject
    secrets: Mapping[str, str]


class Undecryptable(InvalidDocument):
    """Files contain values sealed with keys that the keyring does not have; restoring the keys solves the problem."""


class Composer:
    """Composes and validates configurations from the files of one moment.

    Attributes:
        sources: The parsed files.
        bounds: Refuses configurations that hold too much.
    """

    def __init__(self, sources: Sources, keyring: Keyring, *, limits: DocumentLimits) -> None:
        """Make a composer.

        Args:
            sources: The parsed files.
            keyring: Opens sealed values, and computes the digests in checksums.
            limits: What a configuration may hold.
        """
        self.sources = sources
        self._keyring = keyring
        self.bounds = Bounds(limits)
        # By environment and service; only of services that the files know, as callers may ask for any name.
        self._bases: dict[tuple[str, str], JsonObject] = {}
        # The files whose defaults are within the limits and hold nothing that is sealed or looks so, for any service:
        # they are looked through once, not for each of 10,000 services.
        self._plain_defaults: set[str] = set()
        self._shared_defaults = SharedDefaults(sources)
        self._inspections = Inspections()

    def parts(self) -> list[object]:
        """Return what is kept here, in small pieces, for ``memory.free_slowly``."""
        return list(self._bases.values())

    def base(self, environment: str, service: str) -> JsonObject:
        """Merge the files of a service, with sealed values opened and without validation.

        The result may be kept, and must not be changed.

        Raises:
            InvalidDocument: A sealed value in a file does not open, or is in a place where it is not allowed.
            Undecryptable: Sealed values do not open, all of them because their keys are missing.
            TooLarge: The files give the service more nodes or secrets than a configuration may hold.
        """
        key = (environment, service)
        known = self._bases.get(key)
        if known is not None:
            return known
        made = self._base(environment, service)
        files = self._environment(environment).files
        if service in self.sources.schemas or any(service in file.services for file in files):
            self._bases[key] = made
        return made

    def _base(self, environment: str, service: str) -> JsonObject:
        schema = self.sources.schema(service)
        result, layers = self._defaults(self._environment(environment), service)
        problems: list[Problem] = []
        boxes: set[str] = set()
        for layer in layers:
            shared = layer.section == "defaults"
            self.bounds.check_nodes(service, layer.patch)
            if not may_be_sealed(layer.patch):
                if shared:
                    self._plain_defaults.add(layer.file)
                result = documents.merge(result, layer.patch)
                continue
            self.bounds.check_secrets(service, sealed_pointers(layer.patch))
            opened = open_document(
                layer.patch,
                self._keyring,
                service=service,
                environment=environment,
                shared=shared,
            )
            boxes |= opened.secrets.keys()
            problems += [*opened.problems, *form_problems(layer.patch, opened, schema)]
            result = documents.merge(result, opened.document)
        left = {pointer for pointer in boxes if isinstance(documents.find(result, pointer), str)}
        outside = left and left - schema.secrets(result).keys()
        problems += [Problem(pointer, MISPLACED_SEALED_VALUE) for pointer in sorted(outside)]
        if problems:
            lost = all(isinstance(problem, MissingKey) for problem in problems)
            refused = Undecryptable if lost else InvalidDocument
            message = f"The files of {environment} contain sealed values that do not open"
            raise refused(message, self._findings(service, problems))
        # Not again with the overlay, which was within the limits when it was written: a limit that is lowered since
        # takes no configuration away.
        self.bounds.check_count(service, result)
        self.bounds.check_marked(service, result, schema)
        return result

    def _defaults(self, environment: Environment, service: str) -> tuple[JsonObject, Sequence[Layer]]:
        """Return what is lowest of a service, and the layers above that."""
        if all(layer.file in self._plain_defaults for layer in environment.default_layers):
            shared = self._shared_defaults.of(environment, service)
            if shared is not None:
                return shared, environment.own_layers(service)
        return self.sources.defaults(environment.name, service), environment.layers(service)

    def compose(
        self,
        environment: str,
        service: str,
        overlay: JsonObject | None = None,
        *,
        kept: Mapping[str, str] | None = None,
        kept_values: Collection[str] = (),
    ) -> Effective:
        """Compose the effective configuration of a service from the files and an overlay.

        Args:
            environment: The environment of the configuration.
            service: The service of the configuration.
            overlay: The changes made at run time as a merge patch, secrets in plain text; None for none.
            kept: Secrets of the configuration before, by JSON Pointer; see ``effective``.
            kept_values: Secrets of the configuration before, wherever their values stand now: a migration moves them.

        Raises:
            InvalidDocument: The configuration is invalid, or a sealed value in a file does not open.
            Undecryptable: Nothing is wrong except that sealed values in files need keys that are missing.
            TooLarge: The configuration is larger than allowed.
        """
        document = self._merged(environment, service, overlay)
        strings = documents.walk_strings(document) if kept_values else ()
        moved = {pointer: value for pointer, value in strings if value in kept_values}
        return self.effective(environment, service, document, kept={**(kept or {}), **moved})

    def effective(
        self,
        environment: str,
        service: str,
        document: JsonObject,
        *,
        boxes: Collection[str] = (),
        kept: Mapping[str, str] | None = None,
    ) -> Effective:
        """Validate a whole configuration.

        Args:
            environment: The environment of the configuration.
            service: The service of the configuration.
            document: The configuration, secrets in plain text; ``service_name`` and ``environment`` may be left out.
            boxes: JSON Pointers of the values that were sealed in the writer's document. They are allowed only in
                places of secrets, and no message quotes them.
            kept: Secrets of the configuration before, by JSON Pointer. Each stays a secret while its value stays the
                same, even if the schema no longer marks it.

        Raises:
            InvalidDocument: The configuration is invalid; ``problems`` lists everything.
            TooLarge: The configuration is larger than allowed.
        """
        self._check_shape(service, document)
        return self._checked(environment, service, document, boxes=boxes, kept=kept or {})

    def check_written(
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
            return self._checked(environment, service, whole, boxes=boxes, kept=kept, limited=True, seen=seen)
        unknown = {pointer: placeholder() for pointer in (*moved, *sent.secrets)}
        return self._checked(
            environment,
            service,
            documents.replace_strings(whole, unknown),
            boxes=boxes,
            kept={pointer: unknown.get(pointer, "") for pointer in (*kept, *moved)},
            limited=True,
            opaque=unknown,
        )

    def _checked(
        self,
        environment: str,
        service: str,
        document: JsonObject,
        *,
        boxes: Collection[str],
        kept: Mapping[str, str],
        limited: bool = False,
        opaque: Collection[str] = (),
        seen: Inspection | None = None,
    ) -> Effective:
        """Validate a document whose shape was checked; arguments and errors as for ``effective``.

        ``limited`` refuses too many secrets. The values at the JSON Pointers in ``opaque`` count as meeting every rule.
        ``seen`` is what ``_inspected`` returned for the document, if that was asked for.
        """
        document, version = _filled(environment, service, document)
        schema = self.sources.schema(service)
        if seen is None:
            filled = documents.normalise(document)
            secrets = schema.secrets(filled)
        else:
            filled, secrets = seen.document, dict(seen.secrets)
        if limited:
            self.bounds.check_secrets(service, secrets)
        secrets |= {pointer: value for pointer, value in kept.items() if documents.find(filled, pointer) == value}
        whole: JsonObject = {"version": versions.FIRST, **filled, **_version_member(version)}
        hidden = {*boxes, *kept}
        findings = schema.findings(whole, hidden=hidden, opaque=opaque)
        findings += _identity_findings(environment, service, whole, hidden)
        misplaced = (Problem(pointer, MISPLACED_SEALED_VALUE) for pointer in boxes if pointer not in secrets)
        findings += self._findings(service, misplaced)
        self.bounds.check_size(service, filled)
        if findings:
            findings.sort(key=lambda finding: finding.pointer)
            raise InvalidDocument(f"The configuration of {service} in {environment} is invalid", findings)
        return Effective(
            filled,
            secrets,
            checksum(self._keyring, service, filled, secrets),
            version if isinstance(version, str) else None,
            schema,
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
        filled, _ = _filled(environment, service, document)
        tree = self.sources.schema(service).tree
        found = self._inspections.of((environment, service), tree, filled) if keep else inspect(tree, filled)
        if not counted:
            # Nearly every document is within the limits, and then nothing has to be looked at again.
            self.bounds.check_nodes(service, document, at_most=found.nodes + ("version" in document))
            self.bounds.check_secrets(service, sealed_pointers(document))
        if not found.sound or not isinstance(document.get("version", ""), str):
            self._check_shape(service, document)
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
        schema, known = self.sources.schema(service), keepable.secrets
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
            raise InvalidDocument(f"The configuration of {service} is incomplete", self._findings(service, problems))
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
        schema = self.sources.schema(service)
        if current is not None:
            marked = current.secrets if current.schema is schema else schema.secrets(current.document)
            return Keepable(current.document, {**marked, **kept})
        merged = self._merged(environment, service, overlay)
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
        problems = [*opened.problems, *form_problems(document, opened, self.sources.schema(service))]
        if problems:
            message = f"The configuration of {service} contains sealed values that do not open"
            raise InvalidDocument(message, self._findings(service, problems))
        return opened

    def overlay(self, base: JsonObject, effective: Effective) -> JsonObject:
        """Return the smallest overlay that turns ``base`` into a configuration, secrets in plain text."""
        plain = {key: value for key, value in base.items() if key != "version"}
        return documents.difference(plain, effective.document)

    def unknown(self, environment: str, service: str, effective: Effective) -> list[str]:
        """Return the JSON Pointers of members that no schema of a service describes, outermost first."""
        seen = self._inspections.last((environment, service))
        if seen is not None and seen.normal is effective.document and effective.schema is self.sources.schema(service):
            return seen.unknown
        return self.sources.schema(service).unknown(effective.document)

    def _merged(self, environment: str, service: str, overlay: JsonObject | None) -> JsonObject:
        base = self.base(environment, service)
        return documents.merge(base, overlay) if overlay else base

    def _environment(self, name: str) -> Environment:
        return self.sources.environments.get(name) or Environment(name, ())

    def _findings(self, service: str, problems: Iterable[Problem]) -> list[Finding]:
        """Return problems with places of a service's document as findings; their messages are for everybody."""
        schema = self.sources.schema(service)
        return [Finding(found.pointer, schema.place(found.pointer), "", found.message) for found in problems]

    def _check_shape(self, service: str, document: JsonObject) -> None:
        """Raise an error if a document has a shape that no configuration may have.

        Raises:
            InvalidDocument: With every problem of ``documents.shape_problems``.
        """
        problems = list(documents.shape_problems(document))
        if problems:
            raise InvalidDocument(f"The configuration of {service} is invalid", self._findings(service, problems))


def _identity_findings(
    environment: str, service: str, document: JsonObject, hidden: Collection[str]
) -> Iterator[Finding]:
    """Yield the problems of the members that the daemon fills in."""

    def finding(key: str, expected: str) -> Finding:
        secret = f"/{key}" in hidden
        found = "a secret" if secret else kind(document[key])
        return Finding(f"/{key}", f"/{key}", found, f"; expected {expected}", quotable=not secret)

    for key, expected in (("service_name", service), ("environment", environment)):
        if isinstance(document[key], str) and document[key] != expected:
            yield finding(key, f"{expected!r}, or leave it out")
    version = document["version"]
    if isinstance(version, str) and version != versions.FIRST and not versions.is_version(version):
        yield finding("version", "a semantic version such as 1.2.3")


def _filled(environment: str, service: str, document: JsonObject) -> tuple[JsonObject, Json]:
    """Return a document with what the daemon fills in, without ``version``; and the version.

    What nothing has to be filled into is not copied: nearly every configuration of the files is so, and a copy is a
    twentieth of its memory.
    """
    if "version" in document or "service_name" not in document or "environment" not in document:
        document = {"service_name": service, "environment": environment, **document}
    version = document.pop("version", None)
    return document, version


def _version_member(version: Json) -> JsonObject:
    return {} if version is None else {"version": version}
