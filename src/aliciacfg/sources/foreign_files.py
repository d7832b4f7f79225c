"""Configuration files of other programs, read to be taken over: ``.env``, JSON, YAML, and INI-like ``key=value``.

Nothing is lost silently: what a configuration cannot hold, or what only the other program understands, is a remark.
"""

import configparser
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aliciacfg import documents, dotenv_file
from aliciacfg.documents import Json, JsonObject, escape, type_name, yaml_reader
from aliciacfg.errors import OperationError, SourceError, SourceProblem
from aliciacfg.model.redaction import REDACTED
from aliciacfg.sealing.boxes import is_sealed, resembles_sealed

Form = Literal["env", "json", "yaml", "ini"]

_FORMS: dict[str, Form] = {
    ".env": "env", ".json": "json", ".yaml": "yaml", ".yml": "yaml",
    ".ini": "ini", ".cfg": "ini", ".conf": "ini", ".properties": "ini",
}  # fmt: skip
_CONTRACT = {"service_name", "environment", "version", "mqtt_config", "api_config", "features", "limits", "settings"}
_FILLED_IN = ("service_name", "environment", "version")
# Only what reads back as the same text: 007, 1.50, True and 1e5 stay strings.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,14}")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,9})\.[0-9]{0,9}[1-9]")
_NEVER_A_NUMBER = re.compile(r"password|secret|pin$|phone", re.IGNORECASE)
_SECRET_NUMBER = re.compile(r"password|secret|(?:^|[_-])(?:key|pin|token)$", re.IGNORECASE)
_TAGGED = re.compile(r"!(?:[A-Za-z_][\w.]*)")
# Names of values and files, not values.
_REFERENCE = re.compile(r"!(?:secret|include\w*|env_var)(?:\.yaml)? [\w./-]+")
_URL_WITH_PASSWORD = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[^\s/@:]*:[^\s/@]+@"
    r"|\S*[?&;][\w.-]*(?:token|passw(?:or)?d|pwd|secret|api[_-]?key|access[_-]?key|auth)=[^\s&;#])",
    re.IGNORECASE,
)
_SECTION = "settings"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that a person should look at.

    Attributes:
        pointer: JSON Pointer of the place in the configuration.
        message: What was found there and what was done; never the value.
        taken: Whether the value was taken over.
    """

    pointer: str
    message: str
    taken: bool


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """What a file holds, as members of a configuration.

    Attributes:
        patch: The values, most of them below ``settings``.
        names: What the file calls each value, by JSON Pointer: the name of a variable, or the keys on the way to it.
        variables: Whether these are names of variables.
        remarks: What to look at.
        passwords: JSON Pointers of the addresses that hold a password.
    """

    patch: JsonObject
    names: dict[str, str] = field(default_factory=dict[str, str])
    variables: bool = False
    remarks: list[Remark] = field(default_factory=list[Remark])
    passwords: list[str] = field(default_factory=list[str])


def form_of(path: Path) -> Form | None:
    """Return the form of a file by its name; None if the name does not say."""
    if path.name == ".env" or path.name.startswith(".env."):
        return "env"
    return _FORMS.get(path.suffix.lower())


def holds_password(text: str) -> bool:
    """Return whether a text holds an address with a password or a token, before the host or behind ``?``."""
    return _URL_WITH_PASSWORD.search(text) is not None


def read_foreign(text: str, form: Form, *, file: str) -> ForeignFile:
    """Read a file of another program.

    Args:
        text: Its content.
        form: Its form.
        file: Its name in problems.

    Raises:
        SourceError: It is not of this form, or holds nothing.
    """
    names: dict[str, str] = {}
    if form == "env":
        values, names = _variables(text, file)
    elif form == "ini":
        values = _sections(text, file)
    else:
        values = _document(text, form, file)
    if not values:
        raise SourceError([SourceProblem(file, None, "holds no value")])
    whole = values.keys() <= _CONTRACT and isinstance(values.get("settings"), dict)
    patch: JsonObject = {_SECTION: values}
    if whole:
        patch = {key: value for key, value in values.items() if key not in _FILLED_IN}
    result = ForeignFile({}, {f"/{_SECTION}{pointer}": name for pointer, name in names.items()}, form == "env")
    kept = _kept(patch, "", result)
    result.patch.update(kept if isinstance(kept, dict) else {})
    inside = 0 if whole else 1
    for pointer, value in documents.leaves(result.patch):
        result.names.setdefault(pointer, ".".join(documents.parse_pointer(pointer)[inside:]))
        if not isinstance(value, str | bool) and _SECRET_NUMBER.search(pointer.rpartition("/")[2]):
            message = "has the name of a secret, but only strings are sealed: everybody who may read it sees it"
            result.remarks.append(Remark(pointer, message, taken=True))
    return result


def _variables(text: str, file: str) -> tuple[JsonObject, dict[str, str]]:
    try:
        found = dotenv_file.parse(text)
    except SourceError as error:
        raise SourceError(SourceProblem(file, problem.line, problem.message) for problem in error.problems) from None
    values: JsonObject = {}
    names: dict[str, str] = {}
    for name, value in found.items():
        key = name.lower()
        if key in values:
            raise SourceError(
                [SourceProblem(file, None, f"{name} is there in capitals and in small letters; remove one")]
            )
        values[key] = _typed(name, value)
        names[f"/{key}"] = name
    return values, names


def _sections(text: str, file: str) -> JsonObject:
    parser = configparser.ConfigParser(
        interpolation=None, delimiters=("=", ":"), inline_comment_prefixes=None, default_section="\0", strict=True
    )
    parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - keys keep their case
    try:
        # Lines before the first section belong to none.
        parser.read_string(f"[\1]\n{text.removeprefix(chr(0xFEFF))}", source=file)
    except configparser.Error as error:
        line = getattr(error, "lineno", None)
        if isinstance(error, configparser.ParsingError) and error.errors:
            line = error.errors[0][0]
        what = "is a key or section that was there before" if "Duplicate" in type(error).__name__ else "is no key=value"
        at = None if not isinstance(line, int) else line - 1
        raise SourceError([SourceProblem(file, at, f"this line {what}; correct it, or remove it")]) from None
    values: JsonObject = {}
    for section in parser.sections():
        members: JsonObject = {key: _typed(key, _unquoted(value)) for key, value in parser.items(section)}
        if section == "\1":
            values.update(members)
        else:
            values[section] = members
    return values


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _document(text: str, form: Form, file: str) -> JsonObject:
    if form == "json":
        try:
            value: Json = documents.decode(text.encode())
        except OperationError:
            raise SourceError([SourceProblem(file, *documents.explain_file(text))]) from None
    else:
        value = yaml_reader.load_tagged(text, file=file).value
    if not isinstance(value, dict):
        message = f"found {type_name(value)}; expected names and values"
        raise SourceError([SourceProblem(file, None, message)])
    return documents.normalise(value)


def _typed(name: str, text: str) -> Json:
    if _NEVER_A_NUMBER.search(name):
        return text
    if text in {"true", "false"}:
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _kept(value: Json, pointer: str, result: ForeignFile) -> Json:
    """Return what of a value can be taken over, and remark on the rest."""
    if isinstance(value, dict):
        members = ((key, member, f"{pointer}/{escape(key)}") for key, member in value.items())
        return {key: _kept(member, place, result) for key, member, place in members if _is_taken(member, place, result)}
    if isinstance(value, list):
        for place, text in documents.walk_strings(value, pointer):
            _remark_on_text(text, place, result)
    if isinstance(value, str):
        _remark_on_text(value, pointer, result)
    return value


def _is_taken(value: Json, pointer: str, result: ForeignFile) -> bool:
    """Return whether a member is taken over; if not, say why."""
    reason = None
    if value is None:
        reason = "is null, which no configuration holds"
    elif isinstance(value, str) and (tag := _TAGGED.match(value)):
        shown = value if _REFERENCE.fullmatch(value) else tag[0]
        reason = f"is {shown}, which only the other program understands"
    elif isinstance(value, str) and value.strip() == REDACTED:
        reason = f"is {REDACTED}, which stands for a secret"
    elif isinstance(value, str) and (is_sealed(value) or resembles_sealed(value, at_secret=True)):
        reason = "is sealed already, and opens only in the place that it was sealed for"
    elif value == "" and _NEVER_A_NUMBER.search(pointer.rpartition("/")[2]):
        reason = "is empty"
    if reason is not None:
        result.remarks.append(Remark(pointer, reason, taken=False))
    return reason is None


def _remark_on_text(text: str, pointer: str, result: ForeignFile) -> None:
    if holds_password(text):
        result.passwords.append(pointer)
        result.remarks.append(Remark(pointer, "is an address with a password in it", taken=True))
    elif "${" in text:
        result.remarks.append(Remark(pointer, "contains ${…}, which stays as it is and is not replaced", taken=True))
    elif _TAGGED.match(text):
        message = "has an item with a tag, which only the other program understands"
        result.remarks.append(Remark(pointer, message, taken=True))
