"""Comparison of two configurations."""

from dataclasses import dataclass, field

from aliciacfg import documents
from aliciacfg.api.answers.compare import Sides
from aliciacfg.documents import Json, JsonObject, escape

SECRET = "secret"  # noqa: S105 - a placeholder, not a password


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two configurations.

    Attributes:
        document: The configuration, with secrets in plain text.
        secrets: Its secrets by JSON Pointer.
    """

    document: JsonObject
    secrets: dict[str, str]

    @property
    def redacted(self) -> Json:
        """The document with ``secret`` in place of each secret."""
        return documents.replace_strings(self.document, dict.fromkeys(self.secrets, SECRET))


@dataclass(slots=True)
class Comparison:
    """The differences between two configurations; see ``CompareAnswer``."""

    changed: dict[str, Sides] = field(default_factory=dict[str, Sides])
    only_in_first: dict[str, Json] = field(default_factory=dict[str, Json])
    only_in_second: dict[str, Json] = field(default_factory=dict[str, Json])
    secrets: list[str] = field(default_factory=list[str])
    hidden: list[str] = field(default_factory=list[str])

    @property
    def equal(self) -> bool:
        """Whether there is no difference; secrets that were not compared do not count."""
        return not (self.changed or self.only_in_first or self.only_in_second)


def compare(first: Side, second: Side, *, compare_secrets: bool) -> Comparison:
    """Compare two configurations.

    Args:
        first: The first side.
        second: The second side.
        compare_secrets: Whether to compare the secrets that both sides have. For administrators only: a caller who
            can write one side could use the answers to guess the secret of the other side.
    """
    result = Comparison()
    _walk(first.redacted, second.redacted, "", result)
    both = sorted(first.secrets.keys() & second.secrets.keys())
    result.hidden = sorted(first.secrets.keys() ^ second.secrets.keys())
    if not compare_secrets:
        result.secrets = both
        return result
    for pointer in both:
        if first.secrets[pointer] != second.secrets[pointer]:
            result.changed[pointer] = Sides(env1=SECRET, env2=SECRET)
            result.hidden.append(pointer)
    return result


def _walk(first: Json, second: Json, pointer: str, result: Comparison) -> None:
    if not (isinstance(first, dict) and isinstance(second, dict)):
        if not documents.equal(first, second):
            result.changed[pointer] = Sides(env1=first, env2=second)
        return
    for key, value in first.items():
        place = f"{pointer}/{escape(key)}"
        if key in second:
            _walk(value, second[key], place, result)
        else:
            result.only_in_first[place] = value
    for key, value in second.items():
        if key not in first:
            result.only_in_second[f"{pointer}/{escape(key)}"] = value
