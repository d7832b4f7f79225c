"""The ``completion`` command: the script with which a shell completes commands, and what they are about."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from aliciacfg.cli.command_group import COMPLETION_VARIABLE

_PROGRAM = "aliciacfg"
_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in bash, zsh or fish.

    It completes commands and options, and services, environments, pointers and revisions as the daemon knows them. If
    no daemon answers within ALICIACFG_COMPLETION_SECONDS (default: 1), it completes the rest.

    Examples:
        bash, for good:  aliciacfg completion bash > ~/.local/share/bash-completion/completions/aliciacfg
        bash, now:       source <(aliciacfg completion bash)
        zsh, in .zshrc:  source <(aliciacfg completion zsh)
        fish, for good:  aliciacfg completion fish > ~/.config/fish/completions/aliciacfg.fish
    """
    script = _SHELLS[shell](context.find_root().command, {}, _PROGRAM, COMPLETION_VARIABLE)
    # What click does beside: it starts the bash of this machine and warns of one that is older than 4.4.
    click.echo(script.source_template % script.source_vars(), nl=False)
