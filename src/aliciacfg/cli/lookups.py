"""What a daemon knows, asked for without a word if there is no answer: for completion, and for what was mistyped."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from aliciacfg.api.answers.configurations import HistoryAnswer, ListAnswer
from aliciacfg.api.answers.environments import EnvironmentsAnswer
from aliciacfg.api.answers.explain import ExplainAnswer
from aliciacfg.cli.requests import Target, try_ask
from aliciacfg.cli.suggestions import close_to, did_you_mean

_MOST = 1000


def services(target: Target, environment: str | None = None, prefix: str = "") -> list[str]:
    """Return the services of an environment, the active one by default, whose names begin with a prefix."""
    fields = {"environment": environment, "prefix": prefix or None, "limit": _MOST}
    answer = try_ask(target, "list", None, fields, ListAnswer)
    return [] if answer is None else [item.service for item in answer.configs]


def environments(target: Target) -> list[str]:
    """Return the environments."""
    answer = try_ask(target, "environments", None, {}, EnvironmentsAnswer)
    return [] if answer is None else [item.name for item in answer.environments]


def pointers(target: Target, service: str, environment: str | None = None, *, overlay: bool = False) -> list[str]:
    """Return the places of a configuration; with ``overlay`` only those that were changed at run time."""
    answer = try_ask(target, "explain", service, {"environment": environment}, ExplainAnswer)
    if answer is None:
        return []
    return [place for place, said in answer.values.items() if not overlay or said.layer == "overlay"]


def revisions(target: Target, service: str, environment: str | None = None) -> list[tuple[str, str]]:
    """Return the last revisions of a configuration, newest first, each with what people know it by."""
    answer = try_ask(target, "history", service, {"environment": environment, "limit": 30}, HistoryAnswer)
    if answer is None:
        return []
    return [
        (str(item.revision), item.comment or f"{item.version} by {item.author}, {item.cause}")
        for item in answer.revisions
    ]


def hurried(target: Target, seconds: float) -> Target:
    """Return the target with a shorter time to wait for an answer."""
    return replace(target, timeout_seconds=min(target.timeout_seconds, seconds))


def meant(target: Target, operation: str, name: str | None, fields: dict[str, Any]) -> str | None:
    """Return what a request that found nothing may have meant, as a question; None if nothing is like it.

    Args:
        target: Whom to ask.
        operation: The operation, by its name in the table.
        name: The service or environment that it concerns.
        fields: The request's fields.
    """
    quick = hurried(target, 2.0)
    wanted = [name] if operation == "activate" else [fields.get(key) for key in ("environment", "env1", "env2")]
    named = [str(one) for one in wanted if one is not None]
    if named:
        known = environments(quick)
        unknown = [one for one in named if one not in known]
        if unknown:
            return did_you_mean(close_to(unknown[0], known))
    if name is None or operation == "activate":
        return None
    known = services(quick, named[0] if named else None)
    return None if name in known else did_you_mean(close_to(name, known))


def meant_pointer(pointer: str, places: Iterable[str]) -> str | None:
    """Return which place a mistyped pointer may have meant, as a question; None if none is like it."""
    return did_you_mean(close_to(pointer, places))
