"""What differs between two configurations."""

from dataclasses import dataclass, field

from aliciacfg import documents
from aliciacfg.api.answers import Sides
from aliciacfg.documents import Json, JsonObject, escape

SECRET = "secret"  # noqa: S105 - what stands in the place of one


@dataclass(frozen=True, slots=True)
class Side:
    """One configuration.

    Attributes:
        document: With its secrets in the open.
        secrets: These secrets by JSON Pointer.
    """

    document: JsonObject
    secrets: dict[str, str]

    @property
    def shown(self) -> Json:
        """With ``secret`` in the place of each secret."""
        return documents.replace_strings(self.document, dict.fromkeys(self.secrets, SECRET))


@dataclass(slots=True)
class Comparison:
    """What turns the first side into the second; see ``messages.CompareAnswer``."""

    changed: dict[str, Sides] = field(default_factory=dict[str, Sides])
    only_in_first: dict[str, Json] = field(default_factory=dict[str, Json])
    only_in_second: dict[str, Json] = field(default_factory=dict[str, Json])
    secrets: list[str] = field(default_factory=list[str])

    @property
    def equal(self) -> bool:
        """Nothing differs that is told."""
        return not (self.changed or self.only_in_first or self.only_in_second)


def compare(first: Side, second: Side, *, tell_secrets: bool) -> Comparison:
    """Compare two configurations.

    Args:
        first: The one.
        second: The other.
        tell_secrets: Say of each secret that both have whether it is the same; otherwise an outsider who may write
            one side could guess the other's.
    """
    result = Comparison()
    _walk(first.shown, second.shown, "", result)
    both = sorted(first.secrets.keys() & second.secrets.keys())
    if not tell_secrets:
        result.secrets = both
        return result
    for pointer in both:
        if first.secrets[pointer] != second.secrets[pointer]:
            result.changed[pointer] = Sides(env1=SECRET, env2=SECRET)
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
