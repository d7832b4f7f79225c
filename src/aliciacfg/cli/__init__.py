"""The command line: the daemon, and its operations over MQTT or HTTP.

A module holds one command, or the commands of one kind. It is imported when its command runs, and a command imports
what only it needs then, so that the others start quickly. These modules are not commands:

    command_table          which commands there are, and in which groups help shows them
    command_group          how a command is found and how help looks
    client, requests       how a command reaches the daemon over the network
    other_homes            whether it reached the daemon of the home here
    local_client           how it reaches the daemon of a data directory
    problem_texts          what is wrong with files, what many services have in common once
    answers, exits         what a command does with an answer, and the exit codes
    command_words          what the daemon's messages say in the words of the command line
    target_options         whom a command asks, before or after its name
    options, inputs        what a command reads
    completers, lookups    what a shell completes, and what a mistyped name may have meant
    present_home           whether there is a home to work on
    home                   the files that a command edits, and the daemon that loads them
    sealing_keys           which public key a command seals with
    output, formatting     what a command prints
    masking                sealed secrets as people see them
    service_variables, exec_source    where the variables of a service come from
    foreground             editor and pager, which have the terminal
    output_format, pager   in which format, and how much at once
    prompts                questions at a terminal
    streams                standard output, written completely
    notices, progress      errors, warnings and notes on standard error, and what takes long
    loop                   runs a coroutine
"""

from typing import Any

import click

from aliciacfg import __version__
from aliciacfg.cli import output_format, pager, target_options
from aliciacfg.cli.command_group import RootGroup, print_overview
from aliciacfg.cli.exits import EXIT_CODES
from aliciacfg.cli.requests import checked_target

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
@target_options.options
@output_format.option
@pager.option
@click.option(
    "-h", is_flag=True, is_eager=True, expose_value=False, callback=print_overview, help="Show what fits a screen."
)
@click.pass_context
def main(context: click.Context, **_: Any) -> None:
    """Configuration for the services on an MQTT bus.

    `serve` runs the daemon. The other commands send requests to it, or work on its files. The options --http, --broker,
    --ca, --as, --timeout, --no-pager and -o can also stand after a command.

    Examples:
        aliciacfg serve --dev
        aliciacfg get voice_router
        aliciacfg patch voice_router '{"limits": {"x": 5}}'
        aliciacfg --http https://config.home:8026 -o json list
    """
    context.obj = checked_target(context.params)
