"""Parses schema files; a text that was parsed before, and whose schema is in use, is not parsed again."""

from collections.abc import Mapping
from hashlib import blake2b
from weakref import WeakValueDictionary

from aliciacfg.documents import yaml_reader
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.schemas.schema_check import schema_problems
from aliciacfg.schemas.service_schema import ServiceSchema

# The results of ``parse``, by a digest of its arguments. As with an lru_cache, the function owns them and not an object
# that loads: a result depends on nothing else. Weak references in place of a size: those of the files in force are
# here, however many there are, so that after an edit of one file the others are not parsed again.
_in_use: WeakValueDictionary[bytes, ServiceSchema] = WeakValueDictionary()


def parse(text: str, label: str, service: str) -> ServiceSchema:
    """Return the schema of a service.

    Args:
        text: The content of its file.
        label: The name of the file in problems.
        service: The name of the service.

    Raises:
        SourceError: The text is no schema; lists the problems.
    """
    key = blake2b(f"{label}\0{service}\0{text}".encode(), digest_size=16).digest()
    if (schema := _in_use.get(key)) is None:
        schema = _in_use[key] = _parsed(text, label, service)
    return schema


def _parsed(text: str, label: str, service: str) -> ServiceSchema:
    # JSON is a subset of YAML 1.2 and is read as such, so that it has lines and the same limits.
    document = yaml_reader.load(text, file=label)
    problems = schema_problems(document.value, title=service)
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
    return ServiceSchema(value if isinstance(value, dict) else None, title=service, file=label)


def _nearest_line(lines: Mapping[str, int], pointer: str) -> int | None:
    while pointer and pointer not in lines:
        pointer = pointer.rpartition("/")[0]
    return lines.get(pointer)
