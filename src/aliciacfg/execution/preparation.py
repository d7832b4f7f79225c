"""What a command would be started with, and every reason not to, found before anything is stopped."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from aliciacfg.documents import JsonObject
from aliciacfg.errors import AliciacfgError
from aliciacfg.execution import commands, environment
from aliciacfg.execution.environment import Environment
from aliciacfg.variables.resolution import NameOf, Resolution, resolve

_MAX_NAMED = 6


class Unusable(AliciacfgError):
    """A command cannot be started with a configuration.

    Attributes:
        code: An error code of the API that says why: ``validation_failed``, ``forbidden`` (a secret that cannot be
            read) or ``too_large``.
        remedy: What to do, if the message does not say it.
    """

    def __init__(self, code: str, message: str, *, remedy: str | None = None) -> None:
        self.code = code
        self.remedy = remedy
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """A configuration, and what is needed to make variables of it.

    Attributes:
        config: The document, secrets open where they can be read. ``repr`` leaves it out.
        name_of: Finds the variables that its schema names.
        names_any: Whether its schema names any; where it does not, names are made from the pointers.
        hidden: Why secrets cannot be read, by JSON Pointer, and what to do.
    """

    config: JsonObject = field(repr=False)
    name_of: NameOf
    names_any: bool = True
    hidden: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Which variables a person wants.

    Attributes:
        derived: Values to which the schema gives no name become variables too, even if it gives names to others.
        allow_redacted: Leave out secrets that cannot be read, instead of refusing.
    """

    derived: bool = False
    allow_redacted: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """An environment to start a command with.

    Attributes:
        environment: The whole environment. It holds secrets, so ``repr`` leaves it out.
        notes: What a person should know of variables that are not set.
    """

    environment: Environment = field(repr=False)
    notes: tuple[str, ...]


def prepare(command: Sequence[str], source: Values, *, inherited: Environment, choices: Choices) -> Prepared:
    """Return what to start a command with.

    Args:
        command: The program and its arguments.
        source: The configuration.
        inherited: The environment that this process was started with.
        choices: Which variables are wanted.

    Raises:
        Unusable: The command cannot be started with this configuration.
    """
    kept = {name.decode(errors="replace") for name in inherited}
    found = select(source, choices=choices, kept=kept)
    made = environment.with_variables(inherited, found.variables)
    if (problem := environment.size_problem(command, made)) is not None:
        raise Unusable("too_large", problem)
    return Prepared(made, tuple(notes(found, kept=kept)))


def select(source: Values, *, choices: Choices, kept: Collection[str]) -> Resolution:
    """Return the variables of a configuration.

    Args:
        source: The configuration.
        choices: Which variables are wanted.
        kept: The variables that are set already; a secret that cannot be read leaves them as they are.

    Raises:
        Unusable: A variable that the schema names cannot be set, or a secret cannot be read.
    """
    found = resolve(source.config, source.name_of, derived=choices.derived or not source.names_any)
    if found.problems:
        named = "; ".join(f"{problem.pointer}: {problem.message}" for problem in found.problems[:_MAX_NAMED])
        raise Unusable("validation_failed", f"values that cannot be variables: {named}")
    missing = [f"{name} ({pointer})" for name, pointer in found.hidden if name not in kept]
    if missing and not choices.allow_redacted:
        rest = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
        reason = next(iter(source.hidden.values()), "the daemon does not deliver them")
        raise Unusable(
            "forbidden",
            f"secrets that cannot be read here: {', '.join(missing[:_MAX_NAMED])}{rest}: {reason}",
            remedy="or set these variables yourself, or leave them out with --allow-redacted",
        )
    return found


def notes(found: Resolution, *, kept: Collection[str]) -> list[str]:
    """Return what a person should know of variables that are not set; ``kept`` as for ``select``."""
    lines = [
        f"{name} keeps the value that it has: {pointer} is a secret that cannot be read here"
        if name in kept
        else f"{name} is left out: {pointer} is a secret that cannot be read here"
        for name, pointer in found.hidden
    ]
    return [*lines, *(f"left out {problem.pointer}: {problem.message}" for problem in found.left_out)]


def startable(command: Sequence[str]) -> None:
    """Check that the program of a command is there.

    Raises:
        Unusable: It is not, or cannot be executed.
    """
    if (problem := commands.missing(command)) is not None:
        raise Unusable("not_found", problem)
