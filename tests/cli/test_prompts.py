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


def test_yes_and_no_are_asked_for_until_one_is_given():
    """In the style of all errors; the return key gives the default."""

    @click.command()
    def command() -> None:
        click.echo(prompts.confirm("Go on?", default=False))
        click.echo(prompts.confirm("Go on?", default=True))

    done = CliRunner().invoke(command, input="maybe\nYes\n\n")
    assert (done.exit_code, done.stdout.split()) == (0, ["True", "True"])
    assert done.stderr.startswith("Go on? [y/N]: ")
    assert "error: found 'maybe'; expected y or n\n" in done.stderr


def test_a_secret_is_typed_twice_until_both_are_the_same():
    """In the style of all errors."""

    @click.command()
    def command() -> None:
        click.echo(prompts.ask_secret("Secret", twice=True))

    done = CliRunner().invoke(command, input="one\ntwo\nthree\nthree\n")
    assert (done.exit_code, done.stdout) == (0, "three\n")
    assert "error: the two are not the same; type it twice again\n" in done.stderr


def test_what_is_printed_after_a_question_that_is_given_up_begins_on_its_own_line():
    """The end of input is Ctrl-D at a terminal."""

    @click.command()
    def command() -> None:
        try:
            prompts.choose("Apply?", "n", "y", "n")
        finally:
            click.echo("note: nothing was changed", err=True)

    assert CliRunner().invoke(command, input="").stderr.splitlines() == [
        "Apply? [n]: ",
        "note: nothing was changed",
        "Aborted!",
    ]
