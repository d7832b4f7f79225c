"""Questions at a terminal."""

import click
from click.testing import CliRunner

from aliciacfg.cli import prompts


def test_a_wrong_answer_is_told_and_asked_for_again():
    """In the style of all errors; the return key gives the default."""

    @click.command()
    def command() -> None:
        click.echo(prompts.choose("Apply?", "n", "y", "n"))
        click.echo(prompts.choose("Apply?", "n", "y", "n"))

    done = CliRunner().invoke(command, input="x\nY\n\n")
    assert (done.exit_code, done.stdout.split()) == (0, ["y", "n"])
    assert "error: found 'x'; expected one of y, n\n" in done.stderr
