"""What files and overlay make of a configuration that is not valid: for people to look at, never to serve."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from msgspec import UnsetType

from aliciacfg import documents
from aliciacfg.core.composer import Composer, filled_in
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.state import State
from aliciacfg.documents import JsonObject
from aliciacfg.documents.yaml_values import with_value
from aliciacfg.errors import Finding, Problem, SourceProblem, TooLarge
from aliciacfg.model import versions
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.redaction import REDACTED
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.sealed_documents import open_document, sealed_pointers
from aliciacfg.sources.layers import Environment


@dataclass(frozen=True, slots=True)
class Draft:
    """A configuration as its files and overlay say it, though it breaks rules.

    Attributes:
        environment: Its environment, with the files that can be read.
        overlay: The changes made at run time; empty if there are none.
        document: The merged layers, secrets in plain text, without ``version``. ``***`` stands for what may be meant as
            a secret, because it stands in the place of one, or has a name that the schema forbids.
        secrets: The secrets by JSON Pointer, values sealed with missing keys and all ``***`` among them.
        missing: The JSON Pointers of required members that are missing, and of values whose variable is not set.
        problems: Everything that is wrong, each with file and line.
    """

    environment: Environment
    overlay: JsonObject
    document: JsonObject
    secrets: dict[str, str]
    missing: list[str]
    problems: list[Problem]


class Drafts:
    """Composes drafts; keeps no state."""

    def __init__(self, files: LoadedFiles, state: State, keyring: Keyring) -> None:
        """Hold the parts.

        Args:
            files: The files in force.
            state: Has the overlays.
            keyring: Opens sealed values.
        """
        self._files = files
        self._state = state
        self._keyring = keyring

    def of(self, config_id: ConfigId) -> Draft | None:
        """Return what the files make of a configuration if that is not valid; None if it is, or they do not name it.

        None as well where the configuration has more nodes or secrets than allowed, and where a file cannot be read and
        there is a stored revision to look at instead.
        """
        planner = self._files.current_planner
        if planner is None or self._files.problem_of(config_id) is None:
            return None
        composer, (name, service) = planner.composer, config_id
        environment = composer.sources.environments[name]
        entry = self._state.committed(config_id)
        if entry.live is not None and not all(problem.variable for problem in environment.problems):
            return None
        draft, overlay = environment.draft, entry.overlay or {}
        if service not in draft.services and not overlay:
            return None
        try:
            document, sealed = self._merged(composer, draft, service, overlay)
        except TooLarge:
            return None
        schema = composer.sources.schema(service)
        # What was a secret stays one while its value stays the same, even if the schema marks it no longer.
        kept = planner.secrets(entry).items()
        secrets = {pointer: value for pointer, value in kept if documents.find(document, pointer) == value}
        secrets |= {**schema.secrets(document), **sealed}
        findings = schema.findings({"version": versions.FIRST, **document}, hidden=secrets, opaque=sealed)
        if environment.problems:
            # Nothing was composed from the files, so what they make of the service was not validated.
            problems = [problem.shown for problem in _of_service(environment, service)]
            problems += [draft.located(service, finding) for finding in findings]
        else:
            problems = self._files.problems_of(config_id)
        document, masked = _masked(document, findings)
        missing = {finding.pointer for finding in findings if finding.missing}
        return Draft(
            environment=draft,
            overlay=overlay,
            document=document,
            secrets={**secrets, **masked},
            missing=sorted(missing.union(_unset(environment, service))),
            problems=list(dict.fromkeys(problems)),
        )

    def _merged(
        self, composer: Composer, environment: Environment, service: str, overlay: JsonObject
    ) -> tuple[JsonObject, dict[str, str]]:
        """Merge layers and overlay; return the document, and the values in it that do not open, as ``***``.

        Raises:
            TooLarge: It has more nodes or secrets than a configuration may hold.
        """
        document = composer.sources.defaults(environment.name, service)
        for layer in environment.layers(service):
            composer.bounds.check_count(service, layer.patch)
            shared = layer.section == "defaults"
            opened = open_document(
                layer.patch, self._keyring, service=service, environment=environment.name, shared=shared
            )
            document = documents.merge(document, opened.document)
        document = documents.normalise(documents.merge(document, overlay))
        composer.bounds.check_count(service, document)
        sealed = dict.fromkeys(sealed_pointers(document), REDACTED)
        filled, _ = filled_in(environment.name, service, documents.replace_strings(document, sealed))
        return filled, sealed


def _of_service(environment: Environment, service: str) -> Sequence[SourceProblem]:
    """Return the problems of an environment's files that are not those of other services alone; at least the first."""
    own = ("/defaults", f"/services/{documents.escape(service)}/")
    found = [problem for problem in environment.problems if not problem.pointer or problem.pointer.startswith(own)]
    return found or environment.problems[:1]


def _unset(environment: Environment, service: str) -> Iterator[str]:
    """Yield the places of a service's document that have no value because a variable is not set."""
    for section in ("/defaults", f"/services/{documents.escape(service)}"):
        for problem in environment.problems:
            if problem.variable and problem.pointer.startswith(f"{section}/"):
                yield problem.pointer.removeprefix(section)


def _masked(document: JsonObject, findings: Iterable[Finding]) -> tuple[JsonObject, dict[str, str]]:
    """Replace by ``***`` what breaks a rule and may be meant as a secret.

    That is a value that no message may quote, such as a number in the place of a password, a password in the place of
    an object, or the strings of an object in the place of a password; and every member with a name that the schema
    forbids, as a misspelt one is.

    Returns:
        The document; and its masked values by JSON Pointer.
    """
    masked: dict[str, str] = {}
    for finding in findings:
        value = documents.find(document, finding.pointer)
        if finding.quotable or not finding.pointer or isinstance(value, UnsetType):
            continue
        if not isinstance(value, dict | list) or not finding.found:
            masked[finding.pointer] = REDACTED
        else:
            masked.update((place, REDACTED) for place, _ in documents.walk_strings(value, finding.pointer))
    # What is inside comes first: afterwards it is not there any more.
    for pointer in sorted(masked, key=len, reverse=True):
        changed = with_value(document, documents.parse_pointer(pointer), REDACTED)
        document = changed if isinstance(changed, dict) else document
    return document, masked
