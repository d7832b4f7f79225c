"""From layers and an overlay to a validated configuration, and from a wanted one back to an overlay.

Pure functions on a moment's files and keys; nothing here is stored or published.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
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

MISPLACED_SEALED_VALUE = "found a sealed value; it may stand only where the schema has a secret, or it would be shown"


@dataclass(frozen=True, slots=True)
class Effective:
    """One service's valid configuration in one environment, with its secrets in the open.

    Attributes:
        document: The configuration without ``version``, which belongs to the daemon.
        secrets: The sensitive strings of ``document`` by JSON Pointer.
        checksum: SHA-256, as ``integrity.checksum`` has it.
        requested_version: The ``version`` that the layers or the writer ask for, if any.
    """

    document: JsonObject
    secrets: dict[str, str]
    checksum: str
    requested_version: str | None


class Undecryptable(ValidationFailed):
    """What files or changes hold is sealed with keys that are not here; restoring them mends it."""


class Composer:
    """Composes and checks configurations from one moment's files."""

    def __init__(self, sources: Sources, keyring: Keyring, *, max_bytes: int) -> None:
        """Take what it composes from.

        Args:
            sources: The parsed files.
            keyring: Opens sealed values, and keys the checksums.
            max_bytes: The largest configuration, encoded as JSON.
        """
        self.sources = sources
        self._keyring = keyring
        self._max_bytes = max_bytes
        self._bases: dict[tuple[str, str], JsonObject] = {}

    def base(self, environment: str, service: str) -> JsonObject:
        """What the files alone make of a service, sealed values opened, not validated; not to be changed in place.

        Raises:
            ValidationFailed: A sealed value in a file does not open.
            Undecryptable: All that is wrong is that keys are not here.
        """
        key = (environment, service)
        if key not in self._bases:
            self._bases[key] = self._base(environment, service)
        return self._bases[key]

    def _base(self, environment: str, service: str) -> JsonObject:
        result = self.sources.defaults(environment, service)
        problems: list[Problem] = []
        boxes: set[str] = set()
        for layer in self._environment(environment).layers(service):
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
            raise refused(f"The files of {environment} hold sealed values that do not open", problems)
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
        """Check a whole configuration, and return what readers and checksums need of it.

        Args:
            environment: The environment it is for.
            service: The service it is for.
            document: The configuration; ``service_name`` and ``environment`` may be left out.
            boxes: Pointers of what was sealed where it came from. A box may leave its place for that of another
                secret of the service, but not for an open one, and no problem quotes what was in it.
            kept: What was a secret before, by pointer. It stays one for as long as its value does: a schema that
                no longer marks it frees only what is written afterwards.

        Raises:
            ValidationFailed: It is invalid; ``problems`` lists everything.
            TooLarge: It is larger than allowed.
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
        """Check a whole configuration that a writer sends: open sealed values, and fill in the secrets that stay.

        Args:
            environment: The environment of the configuration.
            service: The service of the configuration.
            document: The document that was sent.
            current: The effective configuration now; None if it cannot be composed.
            overlay: The overlay now.
            kept: Secrets of the configuration now, by pointer; see ``effective``.
            stored: The document comes from the store, where a sealed value is a secret whatever the schema says now.

        Raises:
            ValidationFailed: It is invalid; ``problems`` lists everything.
            TooLarge: It is larger than allowed.
        """
        _check_shape(service, document)
        opened = self.open(environment, service, document, what=f"The configuration of {service}")
        known = self.current_document(environment, service, current, overlay)
        whole, moved = self.restore_redacted(service, opened.document, known, kept)
        kept = {**kept, **moved, **(opened.secrets if stored else {})}
        return self._checked(environment, service, whole, boxes=() if stored else opened.secrets, kept=kept)

    def _checked(
        self,
        environment: str,
        service: str,
        document: JsonObject,
        *,
        boxes: Collection[str],
        kept: Mapping[str, str],
    ) -> Effective:
        """Check a document whose shape was checked; arguments and errors as for ``effective``."""
        filled = documents.normalise({"service_name": service, "environment": environment, **document})
        version = filled.pop("version", None)
        secrets = self.sources.schema(service).secrets(filled)
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
        """Put the current secrets where a writer left the redaction that it was given.

        Inside an array the position alone proves nothing once items were taken out or moved: there an item
        keeps the secrets of the one old item that it is equal to, secrets apart.

        Args:
            service: Whose configuration it is.
            wanted: What the writer sends.
            current: What there is now, secrets in the open.
            kept: What is a secret now though the schema does not say so, by pointer.

        Returns:
            The whole configuration; and the secrets that were put into it, by pointer. In an array they may have moved
            from where a schema, or ``kept``, knows them.

        Raises:
            ValidationFailed: There is nothing to keep at one of the places.
        """
        if all(value != REDACTED for _, value in documents.walk_strings(wanted)):
            return wanted, {}
        schema = self.sources.schema(service)
        kept = kept or {}
        known = {**schema.secrets(current), **kept}
        shown = redact(current, known)
        found: dict[str, str] = {}
        problems: list[Problem] = []
        # Where no schema has a secret, *** is a text like any other, unless one was shown so.
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
        """The document whose secrets a writer can keep: the current one, or what still opens of a damaged one."""
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
            raise ValidationFailed(f"{what} holds sealed values that do not open", opened.problems)
        return opened

    def overlay(self, base: JsonObject, effective: Effective) -> JsonObject:
        """The smallest overlay that turns ``base`` into a configuration, secrets in the open."""
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

    def _check_size(self, service: str, document: JsonObject) -> None:
        size = len(documents.encode(document))
        if size > self._max_bytes:
            raise TooLarge(
                f"The configuration of {service} is {size} bytes; at most {self._max_bytes} are allowed "
                "(ALICIACFG_MAX_CONFIG_BYTES)."
            )


def _check_shape(service: str, document: JsonObject) -> None:
    """Refuse what no configuration may hold.

    Raises:
        ValidationFailed: With every place.
    """
    problems = list(documents.shape_problems(document))
    if problems:
        raise ValidationFailed(f"The configuration of {service} is invalid", problems)


def _version_member(version: Json) -> JsonObject:
    return {} if version is None else {"version": version}
