"""The table of commands, in the groups of ``aliciacfg --help``.

A new command is one line here, and a module of its own. The module is imported when its command runs, not before.
"""

from typing import NamedTuple

__all__ = ["GROUPS", "Row", "row_of"]


class Row(NamedTuple):
    """One command.

    Attributes:
        name: Its name on the command line.
        place: Where it is defined: ``module:attribute``, in this package.
        summary: What it does, in at most 60 characters; begins with a verb, without a full stop.
        common: Whether the short help of ``aliciacfg -h`` has its summary, not only its name.
        formats: Whether it takes ``-o table|json|yaml|name``; false where the output has a form of its own.
    """

    name: str
    place: str
    summary: str
    common: bool = False
    formats: bool = True


GROUPS: dict[str, tuple[Row, ...]] = {
    "Start": (
        Row("init", "init:init", "Lay out a new home: environments, schemas, an example", common=True),
        Row("serve", "serve:serve", "Run the daemon; with --dev all on this machine", common=True, formats=False),
        Row("setup", "setup:setup", "Write Mosquitto's access list and password file"),
        Row("completion", "completion:completion", "Complete commands and services in a shell", formats=False),
        Row("settings", "serve:settings", "Print the daemon's settings and where each comes from"),
    ),
    "Read": (
        Row("list", "reads:list_", "List the configurations", common=True),
        Row("get", "reads:get", "Print a configuration", common=True),
        Row("explain", "explain:explain", "Show where each value comes from", common=True),
        Row("watch", "reads:watch", "Follow the changes of one configuration or of all"),
        Row("validate", "reads:validate", "Check whether a file is a valid configuration"),
        Row("schema", "reads:schema", "Print the JSON Schema of a service"),
    ),
    "Programs that read environment variables": (
        Row("exec", "exec_:exec_", "Run a program with a service's variables", common=True, formats=False),
        Row("env", "env:env", "Print a service's variables as a file for a program", formats=False),
    ),
    "Change": (
        Row("edit", "edit:edit", "Change a configuration in your editor", common=True),
        Row("patch", "writes:patch", "Change some values", common=True),
        Row("set", "writes:set_", "Replace a whole configuration", common=True),
        Row("unset", "writes:unset", "Take one run-time change back", common=True),
        Row("delete", "writes:delete", "Take all run-time changes of a service back"),
        Row("batch", "writes:batch", "Apply several writes in one transaction"),
    ),
    "History": (
        Row("history", "history:history", "List the revisions of a service", common=True),
        Row("diff", "diff:diff", "Compare two revisions or two environments", common=True),
        Row("rollback", "writes:rollback", "Restore an old revision", common=True),
        Row("audit", "audit:audit", "List who wrote, who was refused, and who read secrets"),
    ),
    "Environments and files": (
        Row("service", "service:service", "Add a service of your own", common=True),
        Row("import", "import_file:import_", "Take over the file of a program, or an exported home"),
        Row("environments", "environments:environments", "List the environments and their problems", common=True),
        Row("activate", "environments:activate", "Make another environment the active one", common=True),
        Row("check", "check:check", "Check all files and the stored history", common=True),
        Row("reload", "environments:reload", "Make the daemon load its files now"),
        Row("file", "files:file", "Change one value of an environment file"),
        Row("migrate", "environments:migrate", "Run the pending migrations of schemas"),
    ),
    "Secrets and access": (
        Row("secret", "secret:secret", "Set a secret, or make all that are missing", common=True),
        Row("seal", "seal:seal", "Seal one secret for a file or a write", formats=False),
        Row("seal-file", "seal:seal_file", "Seal every secret of an environment file"),
        Row("recipient", "recipients:recipient", "Set the key that a service's secrets are sealed to"),
        Row("token", "tokens:token", "Create, list and revoke tokens for HTTP"),
        Row("acl", "acl:acl", "Print Mosquitto's access list or password file", formats=False),
        Row("keys", "keys:keys", "Show and change the daemon's sealing keys"),
    ),
    "Operate": (
        Row("status", "status:status", "Show how the daemon is, on one screen", common=True),
        Row("health", "status:health", "Say whether the daemon is healthy, for scripts"),
        Row("doctor", "doctor:doctor", "Look for what is wrong, and say what to do", common=True),
        Row("backup", "backups:backup", "Write everything to one file, while the daemon runs", common=True),
        Row("restore", "backups:restore", "Put the state of a backup in place", common=True),
        Row("database", "database:database", "Move a home between a file and a database server"),
        Row("export", "exchange:export", "Write the whole home as plain YAML, for git"),
        Row("instances", "drift:instances", "List the running instances of a service"),
        Row("drift", "drift:drift", "List everything that differs from the store"),
        Row("replicas", "replicas:replicas", "List the daemons that serve the home"),
    ),
}
"""The rows of each help group, in the order in which help shows them."""

_ROWS = {row.name: row for rows in GROUPS.values() for row in rows}


def row_of(name: str) -> Row | None:
    """Return the row of a command, or None if there is no such command."""
    return _ROWS.get(name)
