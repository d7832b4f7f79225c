"""Composes effective configurations from files and overlays, validates them, and derives overlays from them.

It uses the files and keys of one moment, and neither stores nor publishes anything.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from aliciacfg import documents
from aliciacfg.documents import DocumentLimits, Json, JsonObject
from aliciacfg.errors import Problem, TooLarge, ValidationFailed
from aliciacfg.model import versions
from aliciacfg.sealing.boxes import REDACTED, Keyring
from aliciacfg.sealing.redactions import redaction_sources
from aliciacfg.sealing.sealed_documents import (
    MissingKey,
    OpenedDocument,
    checksum,
    open_document,
    redact,
    sealed_pointers,
)
from aliciacfg.sources.layers import Environment, Sources

MISPLACED_SEALED_VALUE = (
    "found a sealed value; it is allowed only where the schema has a secret, because it would be shown here"
)


@dataclass(frozen=True, slots=True)
class Effective:
    """A valid effective configuration, with its secrets in plain text.

    Attributes:
        document: The configuration without ``version``, which the daemon assigns.
        secrets: The secrets of ``document`` by JSON Pointer.
        checksum: The checksum, as ``sealed_documents.checksum`` computes it.
        requested_version: The ``version`` that the files or the writer ask for, if any.
    """

    document: JsonObject
    secrets: dict[str, str]
    checksum: str
    requested_version: str | None


class Undecryptable(ValidationFailed):
    """Files contain values sealed with keys that the keyring does not have; restoring the keys solves the problem."""


class Composer:
    """Composes and validates configurations from the files of one moment.

    Attributes:
        sources: The parsed files.
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
        self._limits = limits
        # By environment and service; only of services that the files know, as callers may ask for any name.
        self._bases: dict[tuple[str, str], JsonObject] = {}

    def base(self, environment: str, service: str) -> JsonObject:
        """Merge the files of a service, with sealed values opened and without validation.

        The result may be kept, and must not be changed.

        Raises:
            ValidationFailed: A sealed value in a file does not open, or is in a place where it is not allowed.
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
        result = self.sources.defaults(environment, service)
        problems: list[Problem] = []
        boxes: set[str] = set()
        for layer in self._environment(environment).layers(service):
            self.check_count(service, layer.patch)
            opened = open_document(
                layer.patch,
                self._keyring,
                service=service,
                environment=environment,
                shared=layer.section == "defaults",
            )
            boxes |= opened.secrets.keys()
            problems += opened.problems
            result = documents.merge(result, opened.document)
        left = {pointer for pointer in boxes if isinstance(documents.find(result, pointer), str)}
        outside = left and left - self.sources.schema(service).secrets(result).keys()
        problems += [Problem(pointer, MISPLACED_SEALED_VALUE) for pointer in sorted(outside)]
        if problems:
            lost = all(isinstance(problem, MissingKey) for problem in problems)
            refused = Undecryptable if lost else ValidationFailed
            raise refused(f"The files of {environment} contain sealed values that do not open", problems)
        # Not again with the overlay, which was within the limits when it was written: a limit that is lowered since
        # takes no configuration away.
        self.check_count(service, result)
        self._check_secrets(service, self.sources.schema(service).secrets(result))
        return result

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
            ValidationFailed: The configuration is invalid, or a sealed value in a file does not open.
            Undecryptable: Nothing is wrong except that sealed values in files need keys that are missing.
            TooLarge: The configuration is larger than allowed.
        """
        document = self._merged(environment, service, overlay)
        moved = {pointer: value for pointer, value in documents.walk_strings(document) if value in kept_values}
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
            ValidationFailed: The configuration is invalid; ``problems`` lists everything.
            TooLarge: The configuration is larger than allowed.
        """
        _check_shape(service, document)
        return self._checked(environment, service, document, boxes=boxes, kept=kept or {})

    def check_written(
        self,
        environment: str,
        service: str,
        document: JsonObject,
        *,
        current: Effective | None,
        overlay: JsonObject | None,
        kept: Mapping[str, str],
        stored: bool = False,
    ) -> Effective:
        """Validate a whole configuration that a writer sends, after opening its sealed values and restoring redactions.

        Args:
            environment: The environment of the configuration.
            service: The service of the configuration.
            document: The document that was sent.
            current: The effective configuration now; None if it cannot be composed.
            overlay: The overlay now.
            kept: Secrets of the configuration now, by JSON Pointer; see ``effective``.
            stored: Whether the document comes from the store, where each sealed value is a secret even if the schema
                does not mark it now.

        Raises:
            ValidationFailed: The configuration is invalid; ``problems`` lists everything.
            TooLarge: The configuration is larger than allowed, or holds more nodes or secrets.
        """
        self.check_count(service, document)
        _check_shape(service, document)
        opened = self.open(environment, service, document, what=f"The configuration of {service}")
        known = self.current_document(environment, service, current, overlay)
        whole, moved = self.restore_redacted(service, opened.document, known, kept)
        kept = {**kept, **moved, **(opened.secrets if stored else {})}
        boxes = () if stored else opened.secrets
        return self._checked(environment, service, whole, boxes=boxes, kept=kept, limited=True)

    def _checked(
        self,
        environment: str,
        service: str,
        document: JsonObject,
        *,
        boxes: Collection[str],
        kept: Mapping[str, str],
        limited: bool = False,
    ) -> Effective:
        """Validate a document whose shape was checked; arguments and errors as for ``effective``.

        ``limited`` refuses too many secrets.
        """
        filled = documents.normalise({"service_name": service, "environment": environment, **document})
        version = filled.pop("version", None)
        secrets = self.sources.schema(service).secrets(filled)
        if limited:
            self._check_secrets(service, secrets)
        secrets |= {pointer: value for pointer, value in kept.items() if documents.find(filled, pointer) == value}
        whole: JsonObject = {"version": versions.FIRST, **filled, **_version_member(version)}
        problems = self._problems(environment, service, whole, hidden={*boxes, *kept})
        problems += [Problem(pointer, MISPLACED_SEALED_VALUE) for pointer in boxes if pointer not in secrets]
        self._check_size(service, filled)
        if problems:
            problems.sort(key=lambda problem: problem.pointer)
            raise ValidationFailed(f"The configuration of {service} in {environment} is invalid", problems)
        return Effective(
            filled,
            secrets,
            checksum(self._keyring, service, filled, secrets),
            version if isinstance(version, str) else None,
        )

    def restore_redacted(
        self, service: str, wanted: JsonObject, current: JsonObject, kept: Mapping[str, str] | None = None
    ) -> tuple[JsonObject, dict[str, str]]:
        """Replace the redactions in a document by the current secrets.

        Args:
            service: The service of the configuration.
            wanted: The document that the writer sends.
            current: The current configuration, secrets in plain text.
            kept: Current secrets that the schema does not mark, by JSON Pointer.

        Returns:
            The whole configuration; and the restored secrets by JSON Pointer, which may have moved with an item of an
            array.

        Raises:
            ValidationFailed: There is no current secret for a redaction.
        """
        if all(value != REDACTED for _, value in documents.walk_strings(wanted)):
            return wanted, {}
        schema = self.sources.schema(service)
        kept = kept or {}
        known = {**schema.secrets(current), **kept}
        shown = redact(current, known)
        found: dict[str, str] = {}
        problems: list[Problem] = []
        # Elsewhere *** is an ordinary string.
        asked = {*schema.secrets(wanted), *kept}
        redacted = [pointer for pointer in asked if documents.find(wanted, pointer) == REDACTED]
        for pointer, source in redaction_sources(redacted, wanted, shown).items():
            if source is not None and source in known:
                found[pointer] = known[source]
            else:
                problems.append(Problem(pointer, f"found '{REDACTED}', but there is no value to keep; send one"))
        if problems:
            raise ValidationFailed(f"The configuration of {service} is incomplete", problems)
        return documents.replace_strings(wanted, found), found

    def current_document(
        self, environment: str, service: str, current: Effective | None, overlay: JsonObject | None
    ) -> JsonObject:
        """Return the document whose secrets a writer can keep.

        It is the effective configuration, or if that cannot be composed, the files with the overlay, where values that
        do not open are empty.
        """
        if current is not None:
            return current.document
        merged = self._merged(environment, service, overlay)
        return documents.replace_strings(merged, dict.fromkeys(sealed_pointers(merged), ""))

    def open(self, environment: str, service: str, document: JsonObject, *, what: str) -> OpenedDocument:
        """Open every sealed value of a document that a writer sent.

        Raises:
            ValidationFailed: A value does not open; ``what`` begins the message.
        """
        opened = open_document(document, self._keyring, service=service, environment=environment)
        if opened.problems:
            raise ValidationFailed(f"{what} contains sealed values that do not open", opened.problems)
        return opened

    def overlay(self, base: JsonObject, effective: Effective) -> JsonObject:
        """Return the smallest overlay that turns ``base`` into a configuration, secrets in plain text."""
        plain = {key: value for key, value in base.items() if key != "version"}
        return documents.difference(plain, effective.document)

    def _merged(self, environment: str, service: str, overlay: JsonObject | None) -> JsonObject:
        return documents.merge(self.base(environment, service), overlay or {})

    def _environment(self, name: str) -> Environment:
        return self.sources.environments.get(name) or Environment(name, ())

    def _problems(
        self, environment: str, service: str, document: JsonObject, *, hidden: Collection[str]
    ) -> list[Problem]:
        problems = self.sources.schema(service).problems(document, hidden=hidden)

        def found(key: str) -> str:
            return "a secret" if f"/{key}" in hidden else f"{document[key]!r:.80}"

        for key, expected in (("service_name", service), ("environment", environment)):
            if isinstance(document[key], str) and document[key] != expected:
                problems.append(Problem(f"/{key}", f"found {found(key)}; expected {expected!r}, or leave it out"))
        version = document["version"]
        if isinstance(version, str) and not versions.is_version(version):
            message = f"found {found('version')}; expected a semantic version such as 1.2.3"
            problems.append(Problem("/version", message))
        return problems

    def check_count(self, service: str, document: JsonObject) -> None:
        """Check the numbers of nodes and of sealed values, before anything walks or opens them.

        Raises:
            TooLarge: There are too many; the problem names the place.
        """
        allowed = self._limits.max_nodes
        place = documents.excess_nodes(document, allowed)
        if place is not None:
            raise _too_many(service, place, "members and items", allowed, "ALICIACFG_MAX_CONFIG_NODES")
        self._check_secrets(service, sealed_pointers(document))

    def _check_secrets(self, service: str, pointers: Iterable[str]) -> None:
        """Check the number of secrets; each is sealed by itself, again and again.

        Raises:
            TooLarge: There are too many; the problem names the place.
        """
        allowed = self._limits.max_secrets
        beyond = next(islice(pointers, allowed, None), None)
        if beyond is not None:
            raise _too_many(service, beyond, "secrets", allowed, "ALICIACFG_MAX_SECRETS")

    def _check_size(self, service: str, document: JsonObject) -> None:
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


def _check_shape(service: str, document: JsonObject) -> None:
    """Raise an error if a document has a shape that no configuration may have.

    Raises:
        ValidationFailed: With every problem of ``documents.shape_problems``.
    """
    problems = list(documents.shape_problems(document))
    if problems:
        raise ValidationFailed(f"The configuration of {service} is invalid", problems)


def _version_member(version: Json) -> JsonObject:
    return {} if version is None else {"version": version}
