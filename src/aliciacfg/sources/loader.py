"""A loader for environment files, schema files, migrations and access rules."""

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from aliciacfg.access import rules_file
from aliciacfg.access.rules import Access
from aliciacfg.documents import (
    Json,
    JsonObject,
    escape,
    normalise,
    parse_pointer,
    repacked,
    type_name,
    yaml_reader,
)
from aliciacfg.documents.json_patch import operation_problem
from aliciacfg.documents.yaml_values import with_value
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.file_errors import remedy, right_to_read
from aliciacfg.model import names
from aliciacfg.schemas.migrations import DIRECTORY, NAME_FORM, MigrationFile, majors
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.redactions import REDACTED_IN_FILE, STAND_IN_IN_MIGRATION, redacted_pointers, stand_ins
from aliciacfg.sources import schema_files
from aliciacfg.sources.layers import (
    ACCESS,
    BASE,
    Environment,
    EnvironmentFile,
    Sources,
    Stamp,
    Stamps,
)
from aliciacfg.sources.line_numbers import LineNumbers
from aliciacfg.text_files import printable_name, read_text

_FILE_KEYS = ("defaults", "services", "protected")
# A line that is neither blank nor a comment nor the mark of a document.
_CONTENT = re.compile(r"^(?!\ufeff?(?:---|\.\.\.)?[ \t\r]*(?:#|$))", re.MULTILINE)
ENDINGS = frozenset({".yaml", ".yml", ".json"})
_SCHEMAS_DIR = "ALICIACFG_SCHEMAS_DIR"
_UNTYPED = "its name is not UTF-8 or has characters that cannot be seen, so it is ignored; rename or remove it"


@dataclass(slots=True)
class _Found:
    """What a load finds out about the files.

    Attributes:
        problems: The problems that concern every environment.
        set_aside: The problems of files that are ignored.
        files: As ``Sources.files``.
        edits: Texts that count in place of the files, by path.
        only: All files, in place of those of the directories; None for those of the directories.
    """

    edits: Mapping[Path, str] = field(default_factory=dict[Path, str])
    only: Mapping[Path, str | SourceProblem] | None = None
    problems: list[SourceProblem] = field(default_factory=list[SourceProblem])
    set_aside: list[SourceProblem] = field(default_factory=list[SourceProblem])
    files: dict[str, bool] = field(default_factory=dict[str, bool])

    def wrong(self, label: str, message: str) -> None:
        """Add a problem of a whole file that concerns every environment."""
        self.problems.append(SourceProblem(label, None, message))

    def read(self, path: Path, label: str, *, inside: bool = False) -> str:
        """Read a file; arguments and errors as ``read_text``."""
        self.files[label] = True
        text = self._text(path, label, inside=inside)
        self.files[label] = _CONTENT.search(text) is not None
        return text

    def _text(self, path: Path, label: str, *, inside: bool) -> str:
        if self.only is None:
            edited = self.edits.get(path)
            return read_text(path, label, inside=inside) if edited is None else edited
        text = self.only[path]
        if isinstance(text, SourceProblem):
            raise SourceError([SourceProblem(label, text.line, text.message)])
        return text

    def listing(self, directory: Path) -> set[Path]:
        """Return the files of a directory.

        Raises:
            OSError: It cannot be read.
        """
        if self.only is not None:
            return {path for path in self.only if path.parent == directory}
        return {*directory.iterdir(), *(path for path in self.edits if path.parent == directory)}

    def read_something(self, path: Path, label: str) -> str:
        """Read a file that must not be empty; it is empty while an editor is writing it."""
        text = self.read(path, label, inside=True)
        if not text.strip():
            raise SourceError([SourceProblem(label, None, "is empty; finish writing it, or remove it")])
        return text


def load(
    *,
    environments_dir: Path,
    schemas_dir: Path,
    variables: Mapping[str, str],
    edits: Mapping[Path, str] | None = None,
    only: Mapping[Path, str | SourceProblem] | None = None,
) -> Sources:
    """Load all files.

    A file whose name is not UTF-8 or has characters that cannot be seen is set aside: it cannot be meant.

    Args:
        environments_dir: The directory of ``base.yaml``, ``<environment>.yaml``, ``<environment>-secrets.yaml`` and
            ``access.yaml``.
        schemas_dir: The directory of ``<service>.yaml`` or ``<service>.json``, and of migrations.
        variables: The values of ``${NAME}`` in environment files.
        edits: Texts of files of these directories that count as if they were written already, by path.
        only: The texts of all files of these directories, or why one cannot be read: nothing is read from the disk.

    Raises:
        SourceError: A problem concerns every environment: it is in ``base.yaml``, ``access.yaml``, a schema, a
            migration or a directory. Problems in an environment's own files are in its ``problems``.
    """
    paths = source_paths(environments_dir=environments_dir, schemas_dir=schemas_dir) if only is None else []
    stamps = stamp_files(paths)
    found = _Found(edits or {}, only)
    files: dict[str, EnvironmentFile] = {}
    broken: dict[str, tuple[SourceProblem, ...]] = {}
    drafts: dict[str, EnvironmentFile] = {}
    rules: tuple[Path, str] | None = None
    for path, label in _listing(environments_dir, (".yaml",), found, setting="ALICIACFG_ENVIRONMENTS_DIR"):
        name = path.stem
        if name == ACCESS:
            rules = (path, label)
            continue
        text = ""
        try:
            text = found.read(path, label)
            files[name] = _environment_file(text, label, variables)
        except SourceError as error:
            broken[name] = error.problems
            if draft := _draft_file(text, label, variables, error.problems):
                drafts[name] = draft
    found.problems += broken.get(BASE, ())
    loaded = _load_schemas(schemas_dir, found)
    migrations = _load_migrations(schemas_dir, found)
    environments = _environments(files, broken, drafts, found)
    access = None if rules is None else _access_file(*rules, environments, found, all_known=not broken)
    if found.problems:
        raise SourceError(found.problems)
    return Sources(
        environments, loaded, migrations, access, stamps, files=found.files, set_aside=tuple(found.set_aside)
    )


def ignored_files(*, environments_dir: Path, schemas_dir: Path) -> tuple[SourceProblem, ...]:
    """Return the problems of the files that ``load`` would set aside now."""
    found = _Found()
    directories: list[tuple[Path, str | None]] = [(environments_dir, None), (schemas_dir, None)]
    for directory, label in [*directories, *_migrations_of_services(schemas_dir, found)]:
        _listing(directory, (), found, setting="", label=label)
    return tuple(found.set_aside)


def load_schemas(directory: Path) -> dict[str, ServiceSchema]:
    """Load only the schema files, by service.

    Raises:
        SourceError: There is a problem in a file or with the directory.
    """
    found = _Found()
    loaded = _load_schemas(directory, found)
    if found.problems:
        raise SourceError(found.problems)
    return loaded


def source_paths(*, environments_dir: Path, schemas_dir: Path) -> list[Path]:
    """Return the files that ``load`` would read now; none of a directory that cannot be read."""
    found: list[Path] = []
    for directory in (environments_dir, schemas_dir):
        with contextlib.suppress(OSError):
            found += [path for path in directory.iterdir() if path.suffix in ENDINGS]
    with contextlib.suppress(OSError):
        directories = list(_migration_directories(schemas_dir))
        for directory in directories:
            with contextlib.suppress(OSError):
                found += directory.iterdir()
    return found


def stamp_files(paths: Iterable[Path]) -> Stamps:
    """Return the stamps of files, which change with every edit; inaccessible files are left out."""
    found: dict[str, Stamp] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            times = (status.st_mtime_ns, status.st_ctime_ns)
            found[str(path)] = (*times, status.st_size, status.st_ino, status.st_dev)
    return found


def _environments(
    files: Mapping[str, EnvironmentFile],
    broken: Mapping[str, tuple[SourceProblem, ...]],
    drafts: Mapping[str, EnvironmentFile],
    found: _Found,
) -> dict[str, Environment]:
    base = (files[BASE],) if BASE in files else ()
    known = {**files, **drafts}
    environments: dict[str, Environment] = {}
    stems = sorted((files.keys() | broken.keys()) - {BASE})
    for first in stems:
        name = first.removesuffix(names.SECRETS_SUFFIX)
        if problem := names.environment_problem(name):
            found.wrong(f"environments/{first}.yaml", f"{problem}; rename the file")
            continue
        own = [stem for stem in (name, name + names.SECRETS_SUFFIX) if stem in stems]
        environments[name] = Environment(
            name,
            (*base, *(files[stem] for stem in own if stem in files)),
            tuple(problem for stem in own for problem in broken.get(stem, ())),
            (*base, *(known[stem] for stem in own if stem in known)) if broken.keys() & own else (),
        )
    return environments


def _listing(
    directory: Path, suffixes: tuple[str, ...], found: _Found, *, setting: str, label: str | None = None
) -> list[tuple[Path, str]]:
    """Return the files of a directory with their names in problems, sorted by name; hidden files are left out.

    Args:
        directory: The directory.
        suffixes: The endings of files that count.
        found: Gets the problems.
        setting: The setting that names the directory.
        label: The directory's name in problems, if it is not its own name.
    """
    label = label or printable_name(directory.name)
    try:
        paths = sorted(path for path in found.listing(directory) if not path.name.startswith("."))
    except OSError as error:
        shown = printable_name(str(directory))
        denied = right_to_read(directory, shown=shown) if isinstance(error, PermissionError) else ""
        todo = remedy(error) or denied or f"create it, or set {setting}"
        message = f"the directory {shown} cannot be read ({error.strerror}); {todo}"
        found.wrong(f"{label}/", message)
        return []
    listed: list[tuple[Path, str]] = []
    endings = " or ".join(suffixes)
    for path in paths:
        place = f"{label}/{printable_name(path.name)}"
        if not _has_text_name(path):
            if any(ending in path.name for ending in ENDINGS):
                found.set_aside.append(SourceProblem(place, None, _UNTYPED))
        elif path.suffix in suffixes:
            listed.append((path, place))
        elif path.suffix == ".yml":
            found.wrong(place, f"the names of files end in {endings} here; rename it")
    return listed


def _has_text_name(path: Path) -> bool:
    """Return whether the name of a file is UTF-8 and can be seen."""
    return printable_name(path.name) == path.name


def _draft_file(
    text: str, label: str, variables: Mapping[str, str], problems: Sequence[SourceProblem]
) -> EnvironmentFile | None:
    """Return a file whose only problems are variables that are not set, their places null; None if it has others."""
    if not all(problem.variable for problem in problems):
        return None
    # A default counts for an empty variable as for one that is not set.
    filled = {**variables, **dict.fromkeys((problem.variable for problem in problems), "")}
    try:
        return _environment_file(text, label, filled, unset=[problem.pointer for problem in problems])
    except SourceError:
        return None


def _environment_file(
    text: str, label: str, variables: Mapping[str, str], *, unset: Iterable[str] = ()
) -> EnvironmentFile:
    """Parse an environment file.

    Args:
        text: Its content.
        label: Its name in problems.
        variables: The values of ``${NAME}``.
        unset: JSON Pointers of places that are null in place of what the file says.

    Raises:
        SourceError: It has problems.
    """
    document = _emptied(yaml_reader.load(text, file=label, variables=variables), unset)
    problems: list[SourceProblem] = []

    def wrong(pointer: str, message: str, in_full: str = "") -> None:
        problems.append(SourceProblem(label, document.lines.get(pointer), message, pointer, in_full))

    def section(value: Json, pointer: str) -> JsonObject:
        # An empty section, such as `services:` with nothing below, is null in YAML.
        if value is None:
            return {}
        if not isinstance(value, dict):
            found = f"found {type_name(value)}"
            expected = "; expected a mapping"
            wrong(pointer, found + expected, f"{found} at {pointer or 'the top'}{expected}")
            return {}
        return value

    top = section(document.value, "")
    for key in (key for key in top if key not in _FILE_KEYS):
        unknown = f"is not known here; expected one of {', '.join(_FILE_KEYS)}"
        wrong(f"/{escape(key)}", f"this key {unknown}", f"{key!r} {unknown}")
    protected = top.get("protected", False)
    if not isinstance(protected, bool):
        wrong("/protected", f"found {type_name(protected)} at /protected; expected true or false")
    services: dict[str, JsonObject] = {}
    for name, patch in section(top.get("services"), "/services").items():
        pointer = f"/services/{escape(name)}"
        if problem := names.service_problem(name):
            wrong(pointer, f"this key cannot name a service: {names.SERVICE_FORM}", problem)
        services[name] = repacked(normalise(section(patch, pointer)))
    defaults = repacked(normalise(section(top.get("defaults"), "/defaults")))
    problems += _redactions(document, label)
    if problems:
        raise SourceError(problems)
    lines = LineNumbers(document.lines)
    _free(document)
    return EnvironmentFile(label, defaults, services, protected is True, lines)


def _emptied(document: yaml_reader.YamlDocument, pointers: Iterable[str]) -> yaml_reader.YamlDocument:
    """Return a document with null at some places of it."""
    value = document.value
    for pointer in pointers:
        value = with_value(value, parse_pointer(pointer), None)
    return msgspec.structs.replace(document, value=value)


def _free(document: yaml_reader.YamlDocument) -> None:
    """Free a document little by little: at once, 10,000 services hold up other threads for 40 ms."""
    for part in document.value.values() if isinstance(document.value, dict) else ():
        while isinstance(part, dict) and part:
            part.popitem()
    while document.lines:
        document.lines.popitem()


def _redactions(document: yaml_reader.YamlDocument, label: str) -> list[SourceProblem]:
    return [
        SourceProblem(label, document.lines.get(pointer), REDACTED_IN_FILE, pointer)
        for pointer in redacted_pointers(document.value)
    ]


def _load_schemas(directory: Path, found: _Found) -> dict[str, ServiceSchema]:
    loaded: dict[str, ServiceSchema] = {}
    for path, label in _listing(directory, (".yaml", ".json"), found, setting=_SCHEMAS_DIR):
        service = path.stem
        if problem := names.service_problem(service):
            found.wrong(label, f"{problem}; rename the file")
        elif service in loaded:
            found.wrong(label, f"{service} has a schema in .json and .yaml; remove one")
        else:
            try:
                loaded[service] = schema_files.parse(found.read_something(path, label), label, service)
            except SourceError as error:
                found.problems += error.problems
    return loaded


def _migration_directories(schemas_dir: Path, only: Iterable[Path] | None = None) -> list[Path]:
    """Return the directories of migrations, be they readable or not; of all files where these are known.

    Raises:
        OSError: ``schemas_dir`` cannot be read.
    """
    if only is not None:
        parents = {path.parent for path in only if path.parent.name == DIRECTORY}
        return sorted(path for path in parents if path.parent.parent == schemas_dir)
    return sorted(path / DIRECTORY for path in schemas_dir.iterdir() if _may_be_directory(path / DIRECTORY))


def _may_be_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return True


def _load_migrations(schemas_dir: Path, found: _Found) -> dict[str, tuple[MigrationFile, ...]]:
    return {
        directory.parent.name: tuple(_migration_files(directory, label, found))
        for directory, label in _migrations_of_services(schemas_dir, found)
    }


def _migrations_of_services(schemas_dir: Path, found: _Found) -> list[tuple[Path, str]]:
    """Return the directories of migrations with their names in problems; set those aside of impossible services."""
    listed: list[tuple[Path, str]] = []
    # If the directory cannot be read, _load_schemas has reported that.
    with contextlib.suppress(OSError):
        for directory in _migration_directories(schemas_dir, found.only):
            service = directory.parent
            label = f"{printable_name(schemas_dir.name)}/{printable_name(service.name)}/{DIRECTORY}"
            if _has_text_name(service):
                listed.append((directory, label))
            else:
                found.set_aside.append(SourceProblem(f"{label}/", None, _UNTYPED))
    return listed


def _migration_files(directory: Path, label: str, found: _Found) -> Iterable[MigrationFile]:
    # Other files are temporary files of editors, and notes.
    for path, place in _listing(directory, (".yaml", ".yml", ".json"), found, setting=_SCHEMAS_DIR, label=label):
        between = majors(path.stem) if path.suffix == ".yaml" else None
        try:
            if between is None:
                found.wrong(place, NAME_FORM)
            else:
                yield _migration_file(found.read_something(path, place), place, between)
        except SourceError as error:
            found.problems += error.problems


def _migration_file(text: str, label: str, between: tuple[int, int]) -> MigrationFile:
    document = yaml_reader.load(text, file=label)
    operations = document.value
    if not isinstance(operations, list):
        message = f"found {type_name(operations)}; expected a list of JSON Patch operations (RFC 6902)"
        raise SourceError([SourceProblem(label, 1, message)])
    problems = [
        SourceProblem(label, document.lines.get(f"/{number}"), f"is not a JSON Patch operation (RFC 6902): {problem}")
        for number, operation in enumerate(operations)
        if (problem := operation_problem(operation))
    ]
    # What a migration adds to an overlay is taken as it stands.
    problems += [
        SourceProblem(label, document.lines.get(pointer), STAND_IN_IN_MIGRATION, pointer)
        for pointer in stand_ins(operations)
    ]
    if problems:
        raise SourceError(problems)
    return MigrationFile(label, *between, tuple(item for item in operations if isinstance(item, dict)))


def _access_file(
    path: Path, label: str, environments: Mapping[str, Environment], found: _Found, *, all_known: bool
) -> Access | None:
    services = {service for environment in environments.values() for service in environment.services}
    try:
        return rules_file.load(found.read(path, label), services=services, all_known=all_known, file=label)
    except SourceError as error:
        found.problems += error.problems
        return None
