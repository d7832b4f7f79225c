"""A loader for environment files, schema files, migrations and access rules."""

import contextlib
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from aliciacfg.access import rules_file
from aliciacfg.access.rules import Access
from aliciacfg.documents import (
    Json,
    JsonObject,
    escape,
    normalise,
    operation_problem,
    type_name,
    yaml_reader,
)
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.model import names
from aliciacfg.schemas.migrations import DIRECTORY, NAME_FORM, MigrationFile, majors
from aliciacfg.schemas.schema_check import schema_problems
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sources.layers import (
    ACCESS,
    BASE,
    Environment,
    EnvironmentFile,
    Sources,
    Stamp,
    Stamps,
)

_MAX_FILE_BYTES = 16 * 1024 * 1024
_FILE_KEYS = ("defaults", "services", "protected")


def load(*, environments_dir: Path, schemas_dir: Path, variables: Mapping[str, str]) -> Sources:
    """Load all files.

    Args:
        environments_dir: The directory of ``base.yaml``, ``<environment>.yaml``, ``<environment>-secrets.yaml`` and
            ``access.yaml``.
        schemas_dir: The directory of ``<service>.yaml`` or ``<service>.json``, and of migrations.
        variables: The values of ``${NAME}`` in environment files.

    Raises:
        SourceError: A problem concerns every environment: it is in ``base.yaml``, ``access.yaml``, a schema, a
            migration or a directory. Problems in an environment's own files are in its ``problems``.
    """
    stamps = stamp_files(source_paths(environments_dir=environments_dir, schemas_dir=schemas_dir))
    problems: list[SourceProblem] = []
    files: dict[str, EnvironmentFile] = {}
    broken: dict[str, tuple[SourceProblem, ...]] = {}
    rules: tuple[Path, str] | None = None
    for path, label in _listing(environments_dir, (".yaml",), problems):
        name = path.stem
        if name == ACCESS:
            rules = (path, label)
            continue
        try:
            files[name] = _environment_file(path, label, variables)
        except SourceError as error:
            broken[name] = error.problems
    problems += broken.pop(BASE, ())
    loaded = _load_schemas(schemas_dir, problems)
    migrations = _load_migrations(schemas_dir, problems)
    environments = _environments(files, broken, problems)
    access = None if rules is None else _access_file(*rules, environments, problems)
    if problems:
        raise SourceError(problems)
    return Sources(environments, loaded, migrations, access, stamps)


def load_schemas(directory: Path) -> dict[str, ServiceSchema]:
    """Load only the schema files, by service.

    Raises:
        SourceError: There is a problem in a file or with the directory.
    """
    problems: list[SourceProblem] = []
    loaded = _load_schemas(directory, problems)
    if problems:
        raise SourceError(problems)
    return loaded


def source_paths(*, environments_dir: Path, schemas_dir: Path) -> list[Path]:
    """Return the files that ``load`` would read now; none of a directory that cannot be read."""
    found: list[Path] = []
    for directory in (environments_dir, schemas_dir):
        with contextlib.suppress(OSError):
            found += [path for path in directory.iterdir() if path.suffix in {".yaml", ".json", ".yml"}]
    with contextlib.suppress(OSError):
        found += [path for directory in _migration_directories(schemas_dir) for path in directory.iterdir()]
    return found


def stamp_files(paths: Iterable[Path]) -> Stamps:
    """Return the stamps of files, which change with every edit; inaccessible files are left out."""
    found: dict[str, Stamp] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            found[str(path)] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found


def _environments(
    files: Mapping[str, EnvironmentFile],
    broken: Mapping[str, tuple[SourceProblem, ...]],
    problems: list[SourceProblem],
) -> dict[str, Environment]:
    base = (files[BASE],) if BASE in files else ()
    environments: dict[str, Environment] = {}
    found = sorted((files.keys() | broken.keys()) - {BASE})
    for first in found:
        name = first.removesuffix(names.SECRETS_SUFFIX)
        if problem := names.environment_problem(name):
            problems.append(SourceProblem(f"environments/{first}.yaml", None, f"{problem}; rename the file"))
            continue
        stems = [stem for stem in (name, name + names.SECRETS_SUFFIX) if stem in found]
        environments[name] = Environment(
            name,
            (*base, *(files[stem] for stem in stems if stem in files)),
            tuple(problem for stem in stems for problem in broken.get(stem, ())),
        )
    return environments


def _listing(directory: Path, suffixes: tuple[str, ...], problems: list[SourceProblem]) -> list[tuple[Path, str]]:
    """Return the files of a directory with their names in problems, sorted by name; hidden files are left out."""
    label = directory.name
    try:
        paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        message = f"the directory {directory} cannot be read ({error.strerror}); create it or set its path"
        problems.append(SourceProblem(f"{label}/", None, message))
        return []
    endings = " or ".join(suffixes)
    problems += [
        SourceProblem(f"{label}/{path.name}", None, f"the names of files end in {endings} here; rename it")
        for path in paths
        if path.suffix == ".yml"
    ]
    return [(path, f"{label}/{path.name}") for path in paths if path.suffix in suffixes]


def _read(path: Path, label: str, *, inside: bool = False) -> str:
    """Read the text of a file.

    Args:
        path: The file.
        label: The file's name in problems.
        inside: Whether a link must not lead out of the directory. It is set for files whose content is shown to
            callers, since the daemon may be able to read files that the callers are not.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SourceError([SourceProblem(label, None, "is not a regular file; replace it by one")])
        if status.st_size > _MAX_FILE_BYTES:
            message = f"has {status.st_size} bytes; at most {_MAX_FILE_BYTES} are allowed"
            raise SourceError([SourceProblem(label, None, message)])
        if inside and not path.resolve().is_relative_to(path.parent.resolve()):
            message = "is a link that leads out of its directory; replace it by the file itself"
            raise SourceError([SourceProblem(label, None, message)])
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError([SourceProblem(label, None, f"is not UTF-8: byte {error.start} is invalid")]) from error
    except OSError as error:
        raise SourceError([SourceProblem(label, None, f"cannot be read: {error.strerror}")]) from error


def _read_something(path: Path, label: str) -> str:
    """Read the text of a file that must not be empty; it is empty while an editor is writing it."""
    text = _read(path, label, inside=True)
    if not text.strip():
        raise SourceError([SourceProblem(label, None, "is empty; finish writing it, or remove it")])
    return text


def _environment_file(path: Path, label: str, variables: Mapping[str, str]) -> EnvironmentFile:
    document = yaml_reader.load(_read(path, label), file=label, variables=variables)
    problems: list[SourceProblem] = []

    def wrong(pointer: str, message: str) -> None:
        problems.append(SourceProblem(label, document.lines.get(pointer), message, pointer))

    def section(value: Json, pointer: str) -> JsonObject:
        # An empty section, such as `services:` with nothing below, is null in YAML.
        if value is None:
            return {}
        if not isinstance(value, dict):
            wrong(pointer, f"found {type_name(value)} at {pointer or 'the top'}; expected a mapping")
            return {}
        return normalise(value)

    top = section(document.value, "")
    for key in (key for key in top if key not in _FILE_KEYS):
        wrong(f"/{escape(key)}", f"{key!r} is not known here; expected one of {', '.join(_FILE_KEYS)}")
    protected = top.get("protected", False)
    if not isinstance(protected, bool):
        wrong("/protected", f"found {type_name(protected)} at /protected; expected true or false")
    services: dict[str, JsonObject] = {}
    for name, patch in section(top.get("services"), "/services").items():
        pointer = f"/services/{escape(name)}"
        if problem := names.service_problem(name):
            wrong(pointer, problem)
        services[name] = section(patch, pointer)
    defaults = section(top.get("defaults"), "/defaults")
    if problems:
        raise SourceError(problems)
    return EnvironmentFile(label, defaults, services, protected is True, document.lines)


def _load_schemas(directory: Path, problems: list[SourceProblem]) -> dict[str, ServiceSchema]:
    loaded: dict[str, ServiceSchema] = {}
    for path, label in _listing(directory, (".yaml", ".json"), problems):
        service = path.stem
        if problem := names.service_problem(service):
            problems.append(SourceProblem(label, None, f"{problem}; rename the file"))
        elif service in loaded:
            problems.append(SourceProblem(label, None, f"{service} has a schema in .json and .yaml; remove one"))
        else:
            try:
                loaded[service] = _schema_file(path, label)
            except SourceError as error:
                problems += error.problems
    return loaded


def _migration_directories(schemas_dir: Path) -> list[Path]:
    return sorted(path / DIRECTORY for path in schemas_dir.iterdir() if (path / DIRECTORY).is_dir())


def _load_migrations(schemas_dir: Path, problems: list[SourceProblem]) -> dict[str, tuple[MigrationFile, ...]]:
    loaded: dict[str, tuple[MigrationFile, ...]] = {}
    # If the directory cannot be read, _load_schemas has reported that.
    with contextlib.suppress(OSError):
        for directory in _migration_directories(schemas_dir):
            service = directory.parent.name
            label = f"{schemas_dir.name}/{service}/{DIRECTORY}"
            found: list[MigrationFile] = []
            for path in sorted(path for path in directory.iterdir() if _is_migration(path)):
                try:
                    found.append(_migration_file(path, f"{label}/{path.name}"))
                except SourceError as error:
                    problems += error.problems
            loaded[service] = tuple(found)
    return loaded


def _is_migration(path: Path) -> bool:
    """Return whether a file is meant as a migration, unlike temporary files of editors and notes."""
    return path.suffix in {".yaml", ".yml", ".json"} and not path.name.startswith(".")


def _migration_file(path: Path, label: str) -> MigrationFile:
    between = majors(path.stem) if path.suffix == ".yaml" else None
    if between is None:
        raise SourceError([SourceProblem(label, None, NAME_FORM)])
    document = yaml_reader.load(_read_something(path, label), file=label)
    operations = document.value
    if not isinstance(operations, list):
        message = f"found {type_name(operations)}; expected a list of JSON Patch operations (RFC 6902)"
        raise SourceError([SourceProblem(label, 1, message)])
    problems = [
        SourceProblem(label, document.lines.get(f"/{number}"), f"is not a JSON Patch operation (RFC 6902): {problem}")
        for number, operation in enumerate(operations)
        if (problem := operation_problem(operation))
    ]
    if problems:
        raise SourceError(problems)
    return MigrationFile(label, *between, tuple(item for item in operations if isinstance(item, dict)))


def _access_file(
    path: Path, label: str, environments: Mapping[str, Environment], problems: list[SourceProblem]
) -> Access | None:
    services = {service for environment in environments.values() for service in environment.services}
    try:
        return rules_file.load(_read(path, label), services=services, file=label)
    except SourceError as error:
        problems += error.problems
        return None


def _schema_file(path: Path, label: str) -> ServiceSchema:
    # JSON is a subset of YAML 1.2 and is read as such, so that it has lines and the same limits.
    document = yaml_reader.load(_read_something(path, label), file=label)
    problems = schema_problems(document.value, title=path.stem)
    if problems:
        raise SourceError(
            SourceProblem(
                label,
                _nearest_line(document.lines, problem.pointer),
                f"{problem.pointer or '(schema)'}: {problem.message}",
                problem.pointer,
            )
            for problem in problems
        )
    value = document.value
    return ServiceSchema(value if isinstance(value, dict) else None, title=path.stem, file=label)


def _nearest_line(lines: Mapping[str, int], pointer: str) -> int | None:
    while pointer and pointer not in lines:
        pointer = pointer.rpartition("/")[0]
    return lines.get(pointer)
