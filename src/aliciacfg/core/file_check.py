"""A check of environment and schema files without a daemon; it finds the same problems as the daemon."""

from collections.abc import Callable, Iterable

import msgspec

from aliciacfg.core.composer import Composer
from aliciacfg.core.missing_secrets import can_be_made, lacks_secret
from aliciacfg.documents import DocumentLimits, walk_strings
from aliciacfg.errors import InvalidDocument, NotFound, OperationError, Problem, SourceError, SourceProblem
from aliciacfg.model import names
from aliciacfg.sealing.boxes import CannotOpen, Keyring, sealed_with
from aliciacfg.sources.idle_nulls import idle_nulls
from aliciacfg.sources.layers import Environment, Sources
from aliciacfg.sources.misspelt_names import misspelt_names
from aliciacfg.sources.same_ports import same_ports
from aliciacfg.sources.unclear_services import unclear_services


class FileProblem(msgspec.Struct, frozen=True):
    """A problem in a file.

    Attributes:
        file: The file's name relative to the home.
        line: 1-based line; None for the whole file.
        pointer: JSON Pointer of the place in the file, or in the configurations that it makes invalid.
        message: What was found and what to do.
        configurations: The configurations that it makes invalid, each as ``<service> in <environment>``; empty if
            the file itself is not valid.
    """

    file: str
    line: int | None
    pointer: str
    message: str
    configurations: list[str]


class FileFindings(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of a check of all files.

    Attributes:
        valid: The number of valid configurations.
        problems: All problems.
        unopened: Configurations that were not checked, because they contain sealed values and there is no key.
        warnings: Lines that are valid and probably not what was meant; left out of JSON if there are none.
    """

    valid: int
    problems: list[FileProblem]
    unopened: list[str]
    warnings: list[FileProblem] = []


def check_files(
    load: Callable[[], Sources],
    keyring: Keyring | None,
    *,
    limits: DocumentLimits,
    environment: str | None = None,
    only: str | None = None,
) -> FileFindings:
    """Compose every configuration that the files define.

    Args:
        load: Reads the files.
        keyring: Opens sealed values; if None, configurations with sealed values are not checked.
        limits: What a configuration may hold.
        environment: Check only this environment and the shared files.
        only: Compose only the configurations of this service; None composes all.

    Raises:
        NotFound: There is no such environment.
    """
    try:
        sources = load()
    except SourceError as error:
        return FileFindings(0, _merge_equal((problem, None) for problem in error.problems), [])
    if environment is not None and environment not in sources.environments:
        raise NotFound(f"There is no environment {environment!r}; there are: {', '.join(sources.environments)}.")
    composer = Composer(sources, keyring or Keyring.ephemeral(), limits=limits)
    valid = 0
    found: list[tuple[SourceProblem, str | None]] = [(problem, None) for problem in sources.set_aside]
    unopened: list[str] = []
    for item in sources.environments.values() if environment is None else [sources.environments[environment]]:
        found += [(problem, None) for problem in item.problems]
        # Without all of its files, problems in the configurations of an environment may be mere consequences.
        for service in sorted(item.services if only is None else item.services & {only}) if not item.problems else []:
            name = f"{service} in {item.name}"
            unreadable = _boxes(item, service) if keyring is None else frozenset[str]()
            problems = [found for found in _problems(composer, item, service) if found.pointer not in unreadable]
            if unreadable and not problems:
                unopened.append(name)
                continue
            valid += not problems
            found += [(problem, name) for problem in problems]
    unclear = [
        *unclear_services(sources, only=environment),
        *idle_nulls(sources, only=environment),
        *misspelt_names(sources, only=environment),
        *same_ports(sources, only=environment),
    ]
    warnings = _merge_equal((warning, None) for warning in unclear)
    return FileFindings(valid, _merge_equal(found), unopened, warnings)


def _boxes(environment: Environment, service: str) -> frozenset[str]:
    """Return the places of a service's document whose values are sealed and well-formed: only a key can say more."""
    return frozenset(
        pointer
        for layer in environment.layers(service)
        for pointer, value in walk_strings(layer.patch)
        if _is_well_formed(value)
    )


def _is_well_formed(value: str) -> bool:
    try:
        sealed_with(value)
    except CannotOpen:
        return False
    return True


def _problems(composer: Composer, environment: Environment, service: str) -> list[SourceProblem]:
    try:
        composer.compose(environment.name, service)
    except InvalidDocument as error:
        # The caller may read the files, but the report may go to others.
        return [
            _missing_secret(environment, service, finding.in_full)
            if _lacks_secret(composer, environment, service, finding.pointer)
            else _located(environment, service, finding.in_full)
            for finding in error.findings
        ]
    except OperationError as error:
        problems = error.problems or (Problem("", error.message),)
        return [_located(environment, service, problem) for problem in problems]
    return []


def _lacks_secret(composer: Composer, environment: Environment, service: str, pointer: str) -> bool:
    try:
        document = composer.merged(environment.name, service, None)
    except OperationError:
        return False
    return lacks_secret(composer.sources.schema(service), document, pointer)


def _missing_secret(environment: Environment, service: str, problem: Problem) -> SourceProblem:
    """Return a problem of the file into which the secret belongs; no line of another file is wrong."""
    remedy = f"make it with `aliciacfg secret generate {environment.name}`"
    if not can_be_made(problem.pointer):
        remedy = f"set it with `aliciacfg secret set {service} {problem.pointer} -e {environment.name}`"
    file = f"environments/{environment.name}{names.SECRETS_SUFFIX}.yaml"
    return SourceProblem(file, None, f"{problem.message}; {remedy}", problem.pointer)


def _located(environment: Environment, service: str, problem: Problem) -> SourceProblem:
    file, line = environment.locate(service, problem.pointer)
    return SourceProblem(file, line, problem.message, problem.pointer)


def _merge_equal(found: Iterable[tuple[SourceProblem, str | None]]) -> list[FileProblem]:
    """Return each problem once, with its configurations: a line of ``base.yaml`` may affect all of them."""
    affected: dict[SourceProblem, list[str]] = {}
    for problem, name in found:
        affected.setdefault(problem, []).extend([] if name is None else [name])
    return [
        FileProblem(problem.file, problem.line, problem.pointer, problem.in_full or problem.message, names)
        for problem, names in affected.items()
    ]
