"""What is wrong with environment and schema files, found without a daemon: the same as a daemon finds in them."""

from collections.abc import Callable, Iterable

import msgspec

from aliciacfg.core.composer import Composer
from aliciacfg.errors import NotFound, OperationError, Problem, SourceError, SourceProblem
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.sealed_documents import sealed_pointers
from aliciacfg.sources.layers import Environment, Sources


class FileProblem(msgspec.Struct, frozen=True):
    """One thing to mend in a file.

    Attributes:
        file: The file as its operator names it.
        line: 1-based line; None where the whole file is meant.
        pointer: JSON Pointer of the place: in the file, or in the configurations that it spoils.
        message: What was found and what to do.
        configurations: What it spoils, each as ``<service> in <environment>``; empty where the file itself cannot be
            used.
    """

    file: str
    line: int | None
    pointer: str
    message: str
    configurations: list[str]


class FileFindings(msgspec.Struct, frozen=True):
    """What a check of all files found.

    Attributes:
        valid: How many configurations the files make are valid.
        problems: Everything to mend.
        unopened: Configurations that were not composed, because they hold sealed values and there is no key.
    """

    valid: int
    problems: list[FileProblem]
    unopened: list[str]


def check_files(
    load: Callable[[], Sources], keyring: Keyring | None, *, max_bytes: int, environment: str | None = None
) -> FileFindings:
    """Compose every configuration that the files define.

    Args:
        load: Reads the files.
        keyring: Opens the sealed values in them; None leaves out what holds any.
        max_bytes: The largest configuration, encoded as JSON.
        environment: Only this one's, beside what concerns all.

    Raises:
        NotFound: There is no such environment.
    """
    try:
        sources = load()
    except SourceError as error:
        return FileFindings(0, _gathered((problem, None) for problem in error.problems), [])
    if environment is not None and environment not in sources.environments:
        raise NotFound(f"There is no environment {environment!r}; there are: {', '.join(sources.environments)}.")
    composer = Composer(sources, keyring or Keyring.ephemeral(), max_bytes=max_bytes)
    valid = 0
    found: list[tuple[SourceProblem, str | None]] = []
    unopened: list[str] = []
    for one in sources.environments.values() if environment is None else [sources.environments[environment]]:
        found += [(problem, None) for problem in one.problems]
        # Without its own files whole, what an environment makes of a service says nothing.
        for service in sorted(one.services) if not one.problems else []:
            name = f"{service} in {one.name}"
            if keyring is None and _holds_sealed(one, service):
                unopened.append(name)
                continue
            problems = _problems(composer, one, service)
            valid += not problems
            found += [(problem, name) for problem in problems]
    return FileFindings(valid, _gathered(found), unopened)


def _holds_sealed(environment: Environment, service: str) -> bool:
    layers = environment.layers(service)
    return any(sealed_pointers(layer.patch) for layer in layers)


def _problems(composer: Composer, environment: Environment, service: str) -> list[SourceProblem]:
    try:
        composer.compose(environment.name, service)
    except OperationError as error:
        listed = error.problems or (Problem("", error.message),)
        return [_located(environment, service, problem) for problem in listed]
    return []


def _located(environment: Environment, service: str, problem: Problem) -> SourceProblem:
    file, line = environment.locate(service, problem.pointer)
    return SourceProblem(file, line, problem.message, problem.pointer)


def _gathered(found: Iterable[tuple[SourceProblem, str | None]]) -> list[FileProblem]:
    """Each problem once: a line of ``base.yaml`` can spoil every configuration of the home."""
    spoiled: dict[SourceProblem, list[str]] = {}
    for problem, name in found:
        spoiled.setdefault(problem, []).extend([] if name is None else [name])
    return [
        FileProblem(problem.file, problem.line, problem.pointer, problem.message, names)
        for problem, names in spoiled.items()
    ]
