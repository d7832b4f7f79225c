"""What the arguments and options of commands complete to in a shell: services, environments, pointers, revisions.

The daemon is asked for them. A shell must never wait long, nor see an error: after ``ALICIACFG_COMPLETION_SECONDS``
(one by default) without an answer there is nothing to complete.
"""

import contextlib
import io
import os
import signal
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from aliciacfg.cli.requests import Target

_DEFAULT_SECONDS: Final = 1.0

Complete = Callable[[click.Context, str], list[CompletionItem[str]]]


class _Completed(click.types.StringParamType):
    """Text that a shell can complete."""

    def __init__(self, complete: Complete) -> None:
        self._complete = complete

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str  # noqa: ARG002
    ) -> list[CompletionItem[str]]:  # fmt: skip
        with _in_time():
            return self._complete(ctx, incomplete)
        return []


class _CompletedNumber(click.IntRange):
    """A number that a shell can complete."""

    def __init__(self, complete: Complete) -> None:
        super().__init__()
        self._complete = complete

    shell_complete = _Completed.shell_complete


def add_completers(command: click.Command) -> None:
    """Let the parameters of a command complete, each by its name; those with a type of their own keep it.

    Only for completion: a number may be any.
    """
    completers = _completers()
    for parameter in command.params:
        complete = completers.get(parameter.name or "")
        if complete is None:
            continue
        if isinstance(parameter.type, click.types.StringParamType):
            parameter.type = _Completed(complete)
        elif parameter.name in _NUMBERS:
            parameter.type = _CompletedNumber(complete)


def _completers() -> dict[str, Complete]:
    return {
        "service": _services,
        "environment": _environments,
        "environments": _environments,
        "pointer": _pointers,
        "revision": _revisions,
        "revisions": _revisions,
    }


_NUMBERS: Final = frozenset({"revision", "revisions"})


def _services(context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    from aliciacfg.cli import lookups

    return _items(lookups.services(_target(context), context.params.get("environment"), incomplete), incomplete)


def _environments(context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    from aliciacfg.cli import lookups

    return _items(lookups.environments(_target(context)), incomplete)


def _pointers(context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    from aliciacfg.cli import lookups

    service = context.params.get("service")
    if service is None:
        return []
    undone = context.command.name == "unset"
    found = lookups.pointers(_target(context), service, context.params.get("environment"), overlay=undone)
    return _items(found, incomplete)


def _revisions(context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    from aliciacfg.cli import lookups

    service = context.params.get("service")
    if service is None:
        return []
    found = lookups.revisions(_target(context), service, context.params.get("environment"))
    return [CompletionItem(number, help=about) for number, about in found if number.startswith(incomplete)]


def _items(names: list[str], incomplete: str) -> list[CompletionItem[str]]:
    # A name with other characters could not stand on a command line as it is.
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and name.isprintable()]


def _target(context: click.Context) -> "Target":
    """Return where the command line sends requests, with little time to answer."""
    from aliciacfg.cli import lookups
    from aliciacfg.cli.requests import target_of

    return lookups.hurried(target_of(context.find_root().params), _seconds())


@contextlib.contextmanager
def _in_time() -> Generator[None]:
    """End the program without a word if what is inside takes too long; drop errors and what is printed about them."""

    def end(*_: Any) -> None:
        os._exit(0)

    signal.signal(signal.SIGALRM, end)
    # The broker may take as long for a connection as the daemon for its answer.
    signal.setitimer(signal.ITIMER_REAL, 2 * _seconds())
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(Exception, SystemExit):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _seconds() -> float:
    try:
        return max(0.1, float(os.environ["ALICIACFG_COMPLETION_SECONDS"]))
    except (KeyError, ValueError):
        return _DEFAULT_SECONDS
