"""The command line: the daemon, and its operations over MQTT or HTTP.

Exit codes, for scripts: 0 done; 1 failed; 2 wrong usage; 3 not found; 4 invalid; 5 conflict; 6 not allowed;
7 no answer (broker or daemon away, or too busy); 8 the daemon cannot start; 9 another daemon is alive.
"""

import os

import click

from aliciacfg import __version__
from aliciacfg.cli import (
    acl,
    audit,
    check,
    diff,
    drift,
    environments,
    explain,
    files,
    history,
    keys,
    reads,
    recipients,
    seal,
    serve,
    setup,
    tokens,
    writes,
)
from aliciacfg.cli.client import Target, user
from aliciacfg.cli.exits import EXIT_CODES
from aliciacfg.model import names

__all__ = ["EXIT_CODES", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aliciacfg")
@click.option("--http", metavar="URL", help="Ask over HTTP instead of MQTT, for example http://127.0.0.1:8026.")
@click.option("--broker", metavar="HOST[:PORT]", help="The broker; default: MQTT_BROKER, else 127.0.0.1.")
@click.option(
    "--ca", metavar="FILE", help="Certificate authorities to believe; default: the system's for HTTPS, MQTT_TLS_CA."
)
@click.option("--as", "requester", metavar="NAME", help="Who asks; default: your user name.")
@click.option("--timeout", default=10.0, show_default=True, metavar="SECONDS", help="How long to wait for an answer.")
@click.pass_context
def main(
    context: click.Context,
    http: str | None,
    broker: str | None,
    ca: str | None,
    requester: str | None,
    timeout: float,
) -> None:
    """Configurations for services on MQTT: the daemon, and everything it can be asked."""
    if requester is not None and not names.is_requester(requester):
        raise click.UsageError(f"--as {requester!r} cannot name a requester; use letters, digits, '_', '.' and '-'")
    context.obj = Target(http, broker, requester or user(), timeout, os.environ.get("ALICIACFG_TOKEN") or None, ca)


for _command in (
    serve.serve,
    serve.settings,
    reads.get,
    reads.validate,
    reads.schema,
    reads.list_,
    reads.watch,
    writes.set_,
    writes.patch,
    writes.unset,
    writes.delete,
    writes.rollback,
    writes.batch,
    history.history,
    explain.explain,
    diff.diff,
    environments.environments,
    environments.activate,
    environments.reload,
    environments.migrate,
    drift.drift,
    drift.instances,
    check.check,
    files.file,
    tokens.token,
    recipients.recipient,
    audit.audit,
    acl.acl,
    setup.setup,
    keys.keys,
    seal.seal,
    seal.seal_file,
):
    main.add_command(_command)
