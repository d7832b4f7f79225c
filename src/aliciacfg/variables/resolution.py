"""Which variables a configuration sets.

A service's schema names variables with ``x-env``. Where it names none, names are made from the pointers. Who may change
a configuration must not thereby run programs of their own, so variables that take over a process are never set.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import Problem
from aliciacfg.model.redaction import REDACTED, SEALED_PREFIX
from aliciacfg.model.variables import redirects, takes_over
from aliciacfg.schemas import schema_tree
from aliciacfg.variables.texts import derived_name, text_of

NameOf = Callable[[str], str | None]
"""Returns the variable that a schema names for a pointer (``x-env``), or None."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# It differs in every revision, and no program asks for it.
_LEFT_ASIDE = "/version"


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable.

    Attributes:
        name: Its name.
        pointer: JSON Pointer of its value in the configuration.
        text: The value. It may be a secret, so ``repr`` leaves it out.
    """

    name: str
    pointer: str
    text: str = field(repr=False)


@dataclass(slots=True)
class Resolution:
    """The variables of a configuration, in document order, and what could not become one.

    Attributes:
        variables: The variables.
        hidden: Names and pointers of secrets that this reader gets redacted, or sealed to a key that it does not have.
        problems: Variables that the schema names and that cannot be set; by pointer, with the name and never the value.
        left_out: Values whose made name cannot be used; they need a name of their own (``x-env``).
    """

    variables: list[Variable] = field(default_factory=list[Variable])
    hidden: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    problems: list[Problem] = field(default_factory=list[Problem])
    left_out: list[Problem] = field(default_factory=list[Problem])

    @property
    def values(self) -> dict[str, str]:
        """The texts of the variables by name."""
        return {variable.name: variable.text for variable in self.variables}


def resolve(config: JsonObject, name_of: NameOf, *, derived: bool = False) -> Resolution:
    """Return the variables of a configuration.

    Args:
        config: The configuration; its secrets may be open, sealed or redacted.
        name_of: Finds the name that the schema gives.
        derived: Whether values without such a name become variables too, named after their pointers.
    """
    found = Resolution()
    named: dict[str, str] = {}
    unnamed: list[tuple[str, Json]] = []
    for pointer, value in documents.leaves(config):
        name = name_of(pointer)
        if name is None:
            unnamed.append((pointer, value))
        elif _NAME.fullmatch(name) is None:
            found.problems.append(Problem(pointer, f"x-env {name!r:.80} cannot be the name of a variable"))
        elif name in named:
            found.problems.append(Problem(pointer, f"{name} is the variable of {named[name]} too; name one of them"))
        elif takes_over(name):
            # A schema that names it is refused; this one was stored before.
            found.problems.append(Problem(pointer, f"{name} would take over the process; choose another x-env"))
        else:
            named[name] = pointer
            _add(found, name, pointer, value)
    if derived:
        _add_derived(found, unnamed, named)
    return found


def names_in(schema: JsonObject) -> NameOf:
    """Return what finds the variables that a JSON Schema names.

    Args:
        schema: The whole schema of a service, as the operation ``schema`` answers it.
    """
    parts = schema.get("allOf")
    parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else [schema]
    root = schema_tree.compile_tree(parts)
    return lambda pointer: schema_tree.node_at(root, pointer).variable


def names_any(schema: Json) -> bool:
    """Return whether a JSON Schema names any variable, whether or not a configuration has the value."""
    if isinstance(schema, dict):
        return schema_tree.ENVIRONMENT_VARIABLE in schema or any(map(names_any, schema.values()))
    return isinstance(schema, list) and any(map(names_any, schema))


def is_hidden(value: Json) -> bool:
    """Return whether a value is, or contains, a secret that its reader cannot read."""
    return any(text == REDACTED or text.startswith(SEALED_PREFIX) for _, text in documents.walk_strings(value))


def _add_derived(found: Resolution, values: list[tuple[str, Json]], named: dict[str, str]) -> None:
    made = [(derived_name(pointer), pointer, value) for pointer, value in values if pointer != _LEFT_ASIDE]
    uses = Counter([*named, *(name for name, _, _ in made)])
    for name, pointer, value in made:
        if takes_over(name) or redirects(name):
            reason = f"{name} would change more than this value; give it another name with x-env"
            found.left_out.append(Problem(pointer, reason))
        elif uses[name] > 1:
            found.left_out.append(Problem(pointer, f"{name} could be several values; name them with x-env"))
        else:
            _add(found, name, pointer, value)


def _add(found: Resolution, name: str, pointer: str, value: Json) -> None:
    if is_hidden(value):
        found.hidden.append((name, pointer))
        return
    text = text_of(value)
    if not _is_unicode(text):
        found.problems.append(Problem(pointer, f"{name} would hold a surrogate, which is no character; remove it"))
    elif "\0" in text:
        found.problems.append(Problem(pointer, f"{name} would hold a NUL, which no variable can; remove it"))
    else:
        found.variables.append(Variable(name, pointer, text))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
