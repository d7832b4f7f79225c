"""From layers and an overlay to a validated configuration, and from a wanted one back to an overlay.

Pure functions on a moment's files and keys; nothing here is stored or published.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from aliciacfg import documents, sealing, versions
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import Problem, TooLarge, ValidationFailed
from aliciacfg.layers import Environment, Sources
from aliciacfg.sealing import REDACTED, CannotOpen, Keyring


@dataclass(frozen=True, slots=True)
class Effective:
    """One service's valid configuration in one environment, with its secrets in the open.

    Attributes:
        document: The configuration without ``version``, which belongs to the daemon.
        secrets: The sensitive strings of ``document`` by JSON Pointer.
        checksum: SHA-256, as ``checksum()`` has it.
        requested_version: The ``version`` that the layers or the writer ask for, if any.
    """

    document: JsonObject
    secrets: dict[str, str]
    checksum: str
    requested_version: str | None


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

    def base(self, environment: str, service: str) -> JsonObject:
        """What the files alone make of a service, sealed values opened, not validated.

        Raises:
            ValidationFailed: A sealed value in a file does not open.
        """
        result = self.sources.defaults(environment, service)
        problems: list[Problem] = []
        for layer in self._environment(environment).layers(service):
            patch = self._opened(
                layer.patch, environment, service, problems=problems, shared=layer.section == "defaults"
            )
            result = _object(documents.merge(result, patch))
        if problems:
            raise ValidationFailed(f"The files of {environment} hold sealed values that do not open", problems)
        return result

    def effective(self, environment: str, service: str, document: JsonObject) -> Effective:
        """Check a whole configuration, and say what it is.

        Args:
            environment: The environment it is for.
            service: The service it is for.
            document: The configuration; ``service_name`` and ``environment`` may be left out.

        Raises:
            ValidationFailed: It is invalid; ``problems`` lists everything.
            TooLarge: It is larger than allowed.
        """
        filled: JsonObject = {"service_name": service, "environment": environment, **document}
        shape = [*documents.shape_problems(filled)]
        if shape:
            raise ValidationFailed(f"The configuration of {service} is invalid", shape)
        filled = _object(documents.normalise(filled))
        version = filled.pop("version", None)
        problems = self._problems(environment, service, {"version": versions.FIRST, **filled, **_given(version)})
        self._check_size(service, filled)
        if problems:
            raise ValidationFailed(f"The configuration of {service} in {environment} is invalid", problems)
        secrets = self.sources.schema(service).secrets(filled)
        return Effective(
            filled,
            secrets,
            self.checksum(service, filled, secrets),
            version if isinstance(version, str) else None,
        )

    def checksum(self, service: str, document: JsonObject, secrets: dict[str, str]) -> str:
        """SHA-256 in hex of the canonical JSON of a document without ``version``.

        Each secret counts as its keyed digest, so that the checksum neither tells it nor changes with its box.
        """
        digests = {
            pointer: self._keyring.digest(value, service=service, pointer=pointer) for pointer, value in secrets.items()
        }
        return hashlib.sha256(documents.canonical(documents.replace_strings(document, digests))).hexdigest()

    def keep(self, service: str, wanted: JsonObject, known: Mapping[str, str]) -> JsonObject:
        """Put the current secrets where a writer left the redaction that it was given.

        Args:
            service: Whose configuration it is.
            wanted: What the writer sends.
            known: The current secrets by JSON Pointer.

        Raises:
            ValidationFailed: There is nothing to keep at one of the places.
        """
        kept: dict[str, str] = {}
        problems: list[Problem] = []
        for pointer, value in self.sources.schema(service).secrets(wanted).items():
            if value != REDACTED:
                continue
            if pointer in known:
                kept[pointer] = known[pointer]
            else:
                problems.append(Problem(pointer, f"found '{REDACTED}', but there is no value to keep; send one"))
        if problems:
            raise ValidationFailed(f"The configuration of {service} is incomplete", problems)
        return _object(documents.replace_strings(wanted, kept))

    def known_secrets(
        self, environment: str, service: str, current: Effective | None, overlay: JsonObject | None
    ) -> Mapping[str, str]:
        """The secrets that a writer can keep: all of them, or what still opens of a damaged configuration."""
        if current is not None:
            return current.secrets
        merged = documents.merge(self.base(environment, service), overlay or {})
        secrets = self.sources.schema(service).secrets(merged)
        return {pointer: value for pointer, value in secrets.items() if not sealing.is_sealed(value)}

    def opened(self, environment: str, service: str, document: JsonObject, *, what: str) -> JsonObject:
        """A copy of a document or patch with every sealed value opened.

        Raises:
            ValidationFailed: One does not open here; ``what`` begins the message.
        """
        problems: list[Problem] = []
        result = self._opened(document, environment, service, problems=problems, shared=False)
        if problems:
            raise ValidationFailed(f"{what} holds sealed values that do not open", problems)
        return result

    def overlay(self, base: JsonObject, effective: Effective) -> JsonObject:
        """The smallest overlay that turns ``base`` into a configuration, secrets in the open."""
        plain = {key: value for key, value in base.items() if key != "version"}
        return documents.difference(plain, effective.document)

    def sealed(self, environment: str, service: str, document: JsonObject, secrets: dict[str, str]) -> JsonObject:
        """A copy with each of ``secrets`` that the document has sealed to its place."""
        boxes = {
            pointer: self._keyring.seal(value, service=service, environment=environment, pointer=pointer)
            for pointer, value in secrets.items()
            if documents.find(document, pointer) == value
        }
        return _object(documents.replace_strings(document, boxes))

    def _environment(self, name: str) -> Environment:
        return self.sources.environments.get(name) or Environment(name, ())

    def _opened(
        self, document: JsonObject, environment: str, service: str, *, problems: list[Problem], shared: bool
    ) -> JsonObject:
        plain: dict[str, str] = {}
        for pointer, value in documents.walk_strings(document):
            if not sealing.is_sealed(value):
                continue
            try:
                plain[pointer] = self._keyring.open(
                    value, service=service, environment=environment, pointer=pointer, shared=shared
                )
            except CannotOpen as error:
                problems.append(Problem(pointer, str(error)))
        return _object(documents.replace_strings(document, plain)) if plain else document

    def _problems(self, environment: str, service: str, document: JsonObject) -> list[Problem]:
        problems = self.sources.schema(service).problems(document)
        for key, expected in (("service_name", service), ("environment", environment)):
            if isinstance(document[key], str) and document[key] != expected:
                problems.append(
                    Problem(f"/{key}", f"found {document[key]!r:.80}; expected {expected!r}, or leave it out")
                )
        version = document["version"]
        if isinstance(version, str) and not versions.is_version(version):
            problems.append(Problem("/version", f"found {version!r:.80}; expected a semantic version such as 1.2.3"))
        return sorted(problems, key=lambda problem: problem.pointer)

    def _check_size(self, service: str, document: JsonObject) -> None:
        size = len(documents.encode(document))
        if size > self._max_bytes:
            raise TooLarge(
                f"The configuration of {service} is {size} bytes; at most {self._max_bytes} are allowed "
                "(ALICIACFG_MAX_CONFIG_BYTES)."
            )


def redacted(document: JsonObject, secrets: dict[str, str]) -> JsonObject:
    """A copy in which every secret is ``***``."""
    return _object(documents.replace_strings(document, dict.fromkeys(secrets, REDACTED)))


def _given(version: Json) -> JsonObject:
    return {} if version is None else {"version": version}


def _object(value: Json) -> JsonObject:
    """Narrow what is an object because it was made from one."""
    if not isinstance(value, dict):
        raise TypeError("expected an object")
    return value
