"""Whom a command asks, and how long: ``--http``, ``--broker``, ``--ca``, ``--as``, ``--timeout``.

They are options of the root command, and are taken after a command as well, where help does not repeat them.
"""

from collections.abc import Callable
from typing import Any, Final

import click

from aliciacfg.cli.requests import DEFAULT_TIMEOUT_SECONDS, checked_target

_OPTIONS: Final[dict[tuple[str, ...], dict[str, Any]]] = {
    ("--http",): {
        "metavar": "URL",
        "help": "Send requests over HTTP instead of MQTT, to http://127.0.0.1:8026 or so.",
    },
    ("--broker",): {"metavar": "HOST[:PORT]", "help": "Broker; default: MQTT_BROKER, else 127.0.0.1."},
    ("--ca",): {
        "metavar": "FILE",
        "help": "Trusted certificate authorities; default: the system's for HTTPS, MQTT_TLS_CA for MQTT.",
    },
    ("--as", "caller"): {
        "metavar": "NAME",
        "help": "Name of the caller; default: MQTT_USERNAME, else your user name.",
    },
    ("--timeout",): {
        "type": click.FloatRange(min=0, min_open=True),
        "metavar": "SECONDS",
        "help": "How long to wait for an answer.",
    },
}


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to the root command, which gets their values."""
    for names, attributes in reversed(_OPTIONS.items()):
        shown: dict[str, Any] = (
            {"default": DEFAULT_TIMEOUT_SECONDS, "show_default": True} if "type" in attributes else {}
        )
        command = click.option(*names, **attributes, **shown)(command)
    return command


def add_to(command: click.Command) -> None:
    """Add the options to a command, hidden, each unless the command has one of that name."""
    taken = {flag for parameter in command.params for flag in parameter.opts}
    for names, attributes in _OPTIONS.items():
        if names[0] not in taken:
            option = click.Option(
                [names[0], names[-1].removeprefix("--")], hidden=True, expose_value=False, callback=_use, **attributes
            )
            command.params.append(option)


def _use(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        # What a shell completes is asked where these say, too.
        params = context.find_root().params
        params[str(parameter.name)] = value
        context.obj = checked_target(params)
