"""The files of people in a backup or an export: environments and schemas, no secret of which is in plain text."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aliciacfg import documents
from aliciacfg.documents import yaml_editor, yaml_reader
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.file_errors import reason
from aliciacfg.sealing.boxes import CannotOpen, Keyring, is_sealed
from aliciacfg.sealing.keyed_hash import KeyedHash
from aliciacfg.settings import Settings
from aliciacfg.sources import loader
from aliciacfg.sources.layers import ACCESS, Sources
from aliciacfg.sources.seal_file import SealedFile, file_environment, seal_file
from aliciacfg.text_files import read_bytes

ENVIRONMENTS = "environments"
SCHEMAS = "schemas"

_ENVIRONMENT_SUFFIX = ".yaml"
_PURPOSE = b"aliciacfg source file v1"


@dataclass(frozen=True, slots=True)
class HomeFiles:
    """The files of a home.

    Attributes:
        contents: The content of each file, by its name: ``environments/dev.yaml``, ``schemas/….yaml``.
        codes: A code of each file as it is on the disk, by name: see ``code``.
        left_out: Files that are not among them, with the reason.
        in_plain_text: Secrets that are in them in plain text, as defaults of variables: ``file: pointer``.
    """

    contents: dict[str, bytes] = field(default_factory=dict[str, bytes])
    codes: dict[str, str] = field(default_factory=dict[str, str])
    left_out: list[str] = field(default_factory=list[str])
    in_plain_text: list[str] = field(default_factory=list[str])


def code(content: bytes, keyring: Keyring) -> str:
    """Return a keyed code of a file; a plain digest would let a secret in it be guessed."""
    return KeyedHash(keyring.derive(_PURPOSE)).digest(content).hex()


def places(settings: Settings) -> dict[str, Path]:
    """Return the files that a daemon with these settings reads, by name; without ``.env``."""
    environments, schemas = Path(settings.environments_dir), Path(settings.schemas_dir)
    found = loader.source_paths(environments_dir=environments, schemas_dir=schemas)
    named = {_name(path, environments, schemas): path for path in sorted(found) if not path.name.startswith(".")}
    # Another file that lies beside the environments may hold anything, in plain text.
    return {
        name: path
        for name, path in named.items()
        if not name.startswith(f"{ENVIRONMENTS}/") or path.suffix == _ENVIRONMENT_SUFFIX
    }


def place(name: str, settings: Settings) -> Path:
    """Return where a daemon with these settings reads a file of this name."""
    top, _, rest = name.partition("/")
    return Path(settings.environments_dir if top == ENVIRONMENTS else settings.schemas_dir) / rest


def is_writable(path: Path) -> bool:
    """Return whether a file can be put in place or removed: its directory, or the one to make it in, is writable."""
    directory = path.absolute().parent
    while not directory.exists():
        directory = directory.parent
    return os.access(directory, os.W_OK | os.X_OK)


def collect(settings: Settings, keyring: Keyring, *, before: Mapping[str, bytes] | None = None) -> HomeFiles:
    """Return the files that a daemon with these settings reads, every plain secret sealed with the home's key.

    A file in which a secret would stay in plain text is left out: a backup is carried to other places.

    Args:
        settings: The daemon's.
        keyring: The home's keys.
        before: An earlier result; a secret that is still the same keeps the sealed text that it has there.
    """
    found = HomeFiles()
    sources = _schemas(Path(settings.schemas_dir))
    for name, path in places(settings).items():
        try:
            content = original = read_bytes(path, name)
            is_plain = name.startswith(f"{SCHEMAS}/") or path.stem == ACCESS
            plain: list[str] = []
            if not is_plain:
                content, plain = _sealed(content, name, path, sources, keyring, before)
            found.contents[name] = content
            found.codes[name] = code(original, keyring)
            found.in_plain_text.extend(f"{name}: {place}" for place in plain)
        except OSError as error:
            found.left_out.append(f"{name}: cannot be read: {reason(error)}")
        except UnicodeDecodeError as error:
            found.left_out.append(f"{name}: is not UTF-8: byte {error.start} is invalid")
        except SourceError as error:
            found.left_out.append(f"{name}: {'; '.join(problem.message for problem in error.problems)}")
    return found


def _schemas(directory: Path) -> Sources | None:
    """Return the schemas, or None if they are not valid."""
    try:
        return Sources({}, loader.load_schemas(directory))
    except SourceError:
        return None


def _sealed(
    content: bytes,
    name: str,
    path: Path,
    sources: Sources | None,
    keyring: Keyring,
    before: Mapping[str, bytes] | None,
) -> tuple[bytes, list[str]]:
    """Return an environment file with its secrets sealed, and the places of those that stay as defaults of variables.

    Raises:
        SourceError: It is not valid, or a secret of it cannot be sealed where it stands.
    """
    if sources is None:
        raise _left_out(name, "the schemas, which say what is secret, are not valid")
    result = seal_file(content.decode(), path=path, sources=sources, key=keyring.public_key)
    if result.plain:
        raise _left_out(name, f"{result.plain[0]} is a secret that cannot be sealed there; write it under a service")
    return _with_known_boxes(result, path, (before or {}).get(name, b""), keyring).encode(), result.defaults


def _with_known_boxes(result: SealedFile, path: Path, before: bytes, keyring: Keyring) -> str:
    """Return a sealed file in which the secrets that are as they were have the sealed text that they had."""
    try:
        old = yaml_reader.load(before.decode(), file=path.name).value
    except (SourceError, UnicodeDecodeError):
        return result.text
    new = yaml_reader.load(result.text, file=path.name).value
    known: dict[str, str] = {}
    for place in result.sealed:
        boxes = documents.find(old, place), documents.find(new, place)
        texts = [box for box in boxes if isinstance(box, str) and is_sealed(box)]
        if len(texts) == len(boxes) and _hold_the_same(texts, place, path, keyring):
            known[place] = texts[0]
    return yaml_editor.replace_strings(result.text, known, file=path.name) if known else result.text


def _hold_the_same(boxes: list[str], place: str, path: Path, keyring: Keyring) -> bool:
    """Return whether boxes of one place in an environment file hold the same secret."""
    section, *tokens = documents.parse_pointer(place)
    shared = section == "defaults"
    service = "" if shared else tokens.pop(0)
    pointer, environment = documents.format_pointer(tuple(tokens)), file_environment(path) or ""
    try:
        values = {
            keyring.open(box, service=service, environment=environment, pointer=pointer, shared=shared) for box in boxes
        }
    except CannotOpen:
        return False
    return len(values) == 1


def _left_out(name: str, message: str) -> SourceError:
    return SourceError([SourceProblem(name, None, message)])


def _name(path: Path, environments: Path, schemas: Path) -> str:
    for top, directory in ((ENVIRONMENTS, environments), (SCHEMAS, schemas)):
        if path.is_relative_to(directory):
            return f"{top}/{path.relative_to(directory).as_posix()}"
    return path.name
