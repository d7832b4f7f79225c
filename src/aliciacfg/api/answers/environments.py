"""Environments, and the operations that change all configurations of one: activate, reload."""

import msgspec
from msgspec import UNSET, UnsetType

from aliciacfg.api.answers.changes import AddedServices, Changes, ChangesLeftOut, RemovedServices, WaitsForBroker
from aliciacfg.api.answers.refused_edits import RefusedEdits
from aliciacfg.api.fields import Difference, Pointers, Remedies
from aliciacfg.errors import Problem


class EnvironmentItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One environment.

    Attributes:
        problems: The reasons why it cannot be activated.
        hidden: Values of its files that are not valid, which is no problem as long as a change made at run time hides
            them.
        lacking_secrets: By service, the secrets that it has in the active environment and not in this one.
    """

    name: str
    protected: bool
    files: list[str]
    services: list[str]
    problems: list[Problem]
    remedies: Remedies = []
    hidden: list[Problem] = []
    lacking_secrets: dict[str, Pointers] = {}


class EnvironmentsAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``environments``"""

    active: str
    environments: list[EnvironmentItem]
    refused_edits: RefusedEdits = []


class Migration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The migration of a service's stored run-time changes to another major version of its schema.

    Attributes:
        service: The service.
        from_version: The version of the schema in use.
        to_version: The version of the schema on disk.
        files: The migration files, in the order in which they are applied.
        environments: The environments in which run-time changes are stored.
        problems: Reasons why the migration cannot be carried out; each names the environment and the place.
        done: Whether the migration was carried out.
        changes: As in ``ReloadAnswer``, but by environment.
        changes_left_out: As in ``ReloadAnswer``, but by environment.
        difference: By environment; for a dry run only.
    """

    service: str
    from_version: str
    to_version: str
    files: list[str]
    environments: list[str]
    problems: list[Problem]
    done: bool
    changes: Changes = {}
    changes_left_out: ChangesLeftOut = {}
    difference: Difference | UnsetType = UNSET


class EnvironmentChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an operation answers that changes, or would change, the configurations of the active environment.

    Attributes:
        changed: The services whose configuration changed.
        restart_required: Those of them that have to restart to apply it.
        difference: For a dry run only.
    """

    environment: str
    changed: list[str]
    restart_required: list[str]
    message: str
    waits_for_broker: WaitsForBroker = False
    dry_run: bool = False
    changes: Changes = {}
    changes_left_out: ChangesLeftOut = {}
    added: AddedServices = []
    removed: RemovedServices = []
    difference: Difference | UnsetType = UNSET


class ReloadAnswer(EnvironmentChange, frozen=True, kw_only=True, omit_defaults=True):
    """``reload``: the services of the active environment whose configuration changed.

    Attributes:
        migrations: Those that wait and those that were carried out.
        warnings: What the files say and probably do not mean, such as a misspelt name; and what changes made at run
            time hide of them.
    """

    migrations: list[Migration]
    warnings: list[str] = []


class ActivateAnswer(EnvironmentChange, frozen=True, kw_only=True, omit_defaults=True):
    """``activate``: the services whose configuration changed, and those that have to restart to apply it.

    Attributes:
        lacking_secrets: By service, the secrets that it had in the environment before and has not in this one.
    """

    previous: str
    lacking_secrets: dict[str, Pointers] = {}
