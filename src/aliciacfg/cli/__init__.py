"""The command line: the daemon, and its operations over MQTT or HTTP.

A module holds one command, or the commands of one kind. It is imported when its command runs, and a command imports
what only it needs then, so that the others start quickly. These modules are not commands:

    command_table          which commands there are, and in which groups help shows them
    command_group          how a command is found and how help looks
    client, requests       how a command reaches the daemon over the network
    local_client           how it reaches the daemon of a data directory
    answers, exits         what a command does with an answer, and the exit codes
    command_words          what the daemon's messages say in the words of the command line
    options, inputs        what a command reads
    completers, lookups    what a shell completes, and what a mistyped name may have meant
    home                   the files that a command edits, and the daemon that loads them
    sealing_keys           which public key a command seals with
    output, formatting     what a command prints
    service_variables, exec_source    where the variables of a service come from
    foreground             editor and pager, which have the terminal
    output_format, pager   in which format, and how much at once
    notices, progress      errors, warnings and notes on standard error, and what takes long
    loop                   runs a coroutine
"""

from typing import Any

import click

from aliciacfg import __version__
from aliciacfg.cli import output_format, pager
from aliciacfg.cli.command_group import RootGroup, print_overview
from aliciacfg.cli.exits import EXIT_CODES
from aliciacfg.cli.requests import DEFAULT_TIMEOUT_SECONDS, target_of
from aliciacfg.model import names

__all__ = ["EXIT_CODES", "main"]


@click.group(
    cls=RootGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 not found, 4 invalid, 5 conflict, 6 not allowed, "
        "7 no answer or too busy, 8 cannot start, 9 another daemon runs, 10 the daemon could not stop in order."
    ),
)
@click.version_option(__version__, prog_name="aliciacfg")
@click.option("--http", metavar="URL", help="Send requests over HTTP instead of MQTT, to http://127.0.0.1:8026 or so.")
@click.option("--broker", metavar="HOST[:PORT]", help="Broker; default: MQTT_BROKER, else 127.0.0.1.")
@click.option(
    "--ca",
    metavar="FILE",
    help="Trusted certificate authorities; default: the system's for HTTPS, MQTT_TLS_CA for MQTT.",
)
@click.option("--as", "caller", metavar="NAME", help="Name of the caller; default: MQTT_USERNAME, else your user name.")
@click.option(
    "--timeout",
    default=DEFAULT_TIMEOUT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an answer.",
)
@output_format.option
@pager.option
@click.option(
    "-h", is_flag=True, is_eager=True, expose_value=False, callback=print_overview, help="Show what fits a screen."
)
@click.pass_context
def main(context: click.Context, http: str | None, caller: str | None, **_: Any) -> None:
    """Configuration for the services on an MQTT bus.

    `serve` runs the daemon. The other commands send requests to it, or work on its files.

    Examples:
        aliciacfg serve --dev
        aliciacfg get voice_router
        aliciacfg patch voice_router '{"limits": {"x": 5}}'
        aliciacfg --http https://config.home:8026 -o json list
    """
    if http is not None and not http.lower().startswith(("http://", "https://")):
        raise click.UsageError(f"--http {http!r}: expected a URL, such as http://127.0.0.1:8026")
    if caller is not None and not names.is_caller_name(caller):
        raise click.UsageError(f"--as {caller!r}: expected letters, digits, '_', '.' and '-'")
    context.obj = target_of(context.params)
