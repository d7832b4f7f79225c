"""Composes effective configurations from files and overlays, validates them, and derives overlays from them.

It uses the files and keys of one moment, and neither stores nor publishes anything.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aliciacfg import documents
from aliciacfg.core.bounds import Bounds
from aliciacfg.core.shared_defaults import SharedDefaults
from aliciacfg.documents import DocumentLimits, Json, JsonObject
from aliciacfg.errors import Finding, InvalidDocument, Problem
from aliciacfg.model import versions
from aliciacfg.schemas.inspection import Inspection
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.schemas.validation_messages import kind
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.sealed_documents import (
    MissingKey,
    checksum,
    form_problems,
    may_be_sealed,
    open_document,
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
            raise refused(message, self.findings(service, problems))
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
        document = self.merged(environment, service, overlay)
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
        self.check_shape(service, document)
        return self.validate(environment, service, document, boxes=boxes, kept=kept or {})

    def validate(
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
        ``seen`` is what ``WrittenDocuments`` returned for the document, if that was asked for.
        """
        document, version = filled_in(environment, service, document)
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
        findings += self.findings(service, misplaced)
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

    def overlay(self, base: JsonObject, effective: Effective) -> JsonObject:
        """Return the smallest overlay that turns ``base`` into a configuration, secrets in plain text."""
        plain = {key: value for key, value in base.items() if key != "version"}
        return documents.difference(plain, effective.document)

    def merged(self, environment: str, service: str, overlay: JsonObject | None) -> JsonObject:
        """Merge the files of a service and an overlay, without validation; errors as for ``base``."""
        base = self.base(environment, service)
        return documents.merge(base, overlay) if overlay else base

    def _environment(self, name: str) -> Environment:
        return self.sources.environments.get(name) or Environment(name, ())

    def findings(self, service: str, problems: Iterable[Problem]) -> list[Finding]:
        """Return problems with places of a service's document as findings, whose messages any caller may see."""
        schema = self.sources.schema(service)
        return [Finding(found.pointer, schema.place(found.pointer), "", found.message) for found in problems]

    def check_shape(self, service: str, document: JsonObject) -> None:
        """Raise an error if a document has a shape that no configuration may have.

        Raises:
            InvalidDocument: With every problem of ``documents.shape_problems``.
        """
        problems = list(documents.shape_problems(document))
        if problems:
            raise InvalidDocument(f"The configuration of {service} is invalid", self.findings(service, problems))


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


def filled_in(environment: str, service: str, document: JsonObject) -> tuple[JsonObject, Json]:
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
