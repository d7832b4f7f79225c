"""Commands in the test's own process: for what a command decides before it asks anyone."""

from click.testing import CliRunner, Result

from aliciacfg.cli import main

# Where nothing listens, by the option that says how to ask.
NOWHERE = {"--broker": ("--broker", "127.0.0.1:1"), "--http": ("--http", "http://127.0.0.1:1")}


def run(*arguments: str, stdin: str | bytes = "") -> Result:
    """Run a command to its end and return its exit code and output."""
    return CliRunner().invoke(main, arguments, input=stdin)
