"""The command ``help``, which people try before they find ``--help``; help does not list it."""

import click


@click.command("help")
@click.argument("command", nargs=-1)
@click.pass_context
def help_(context: click.Context, command: tuple[str, ...]) -> None:
    """Show the help of COMMAND, or of all commands."""
    here = context.find_root()
    for name in command:
        group = here.command
        found = group.get_command(here, name) if isinstance(group, click.Group) else None
        if found is None:
            error = click.UsageError(f"No such command {name!r}.", here)
            # With a suggestion, as for a command that is mistyped where it runs.
            error.command_name = name  # type: ignore[attr-defined]
            raise error
        here = click.Context(found, info_name=name, parent=here)
    click.echo(here.get_help())
