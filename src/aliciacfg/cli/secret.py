"""The ``secret`` commands: ``set`` for one secret, ``generate`` for all that an environment lacks."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aliciacfg import documents
from aliciacfg.api.answers.configurations import ListAnswer
from aliciacfg.cli import formatting, home, inputs, options, output, sealing_keys
from aliciacfg.cli.answers import exit_if_refused, parse
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.exits import EXIT_CODES, EXIT_USAGE, exit_on_error, fail
from aliciacfg.cli.local_client import administer_with, ask_daemon
from aliciacfg.cli.present_home import require_home
from aliciacfg.cli.secret_marks import mark_of
from aliciacfg.cli.shadowed import warn_if_shadowed
from aliciacfg.cli.suggestions import close_to, did_you_mean
from aliciacfg.model.redaction import REDACTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aliciacfg.cli.output import Line
    from aliciacfg.cli.sealing_keys import SealingKey
    from aliciacfg.core.file_check import FileProblem
    from aliciacfg.core.missing_secrets import MissingSecrets
    from aliciacfg.schemas.service_schema import ServiceSchema
    from aliciacfg.sealing.boxes import Keyring, PublicKey
    from aliciacfg.settings import Settings
    from aliciacfg.sources.file_edits import FileEdits
    from aliciacfg.sources.layers import Environment, Sources

_MAX_LISTED = 40


@click.group()
def secret() -> None:
    """Set a secret, or make all that are missing.

    A secret is sealed at once: only the daemon opens it, in the service, environment and place that it is for.
    """


@secret.command("set")
@click.argument("service")
@click.argument("pointer")
@click.option("-e", "--environment", metavar="NAME", help="Environment; default: the active one.")
@click.option("--overlay", is_flag=True, help="Send it to the daemon as a change at run time; write no file.")
@click.option("--keep-newline", is_flag=True, help="Keep the newline at the end of standard input.")
@options.force
@options.comment
@options.expected
@options.settings("data_dir", "environments_dir", "schemas_dir")
@click.pass_obj
def secret_set(
    target: Target,
    service: str,
    pointer: str,
    environment: str | None,
    *,
    overlay: bool,
    keep_newline: bool,
    refuse_near_misses: bool,
    comment: str | None,
    expected_revision: int | None,
    **flags: str | None,
) -> None:
    """Set the secret at POINTER of SERVICE.

    On a terminal the command asks for it and does not show it; otherwise it is on standard input. It goes, sealed, into
    environments/<environment>-secrets.yaml, which the daemon loads by itself.

    Examples:
      aliciacfg secret set door_bell /settings/camera_password
      pass show grok | aliciacfg secret set ai_service /settings/grok_api_key -e prod
    """
    with exit_on_error():
        if not documents.parse_pointer(pointer):
            raise click.UsageError("POINTER is a place in the configuration, such as /settings/password")
        if overlay:
            fields = {
                "environment": environment,
                "comment": comment,
                "expected_revision": expected_revision,
                "refuse_near_misses": refuse_near_misses,
            }
            _set_at_run_time(target, service, pointer, fields, keep_newline=keep_newline)
        elif comment is not None or expected_revision is not None:
            raise click.UsageError("-m and --expected-revision need --overlay: a file has no history of its own")
        else:
            settings = options.daemon_settings(flags).settings
            require_home(settings)
            name = environment or home.active_environment(settings)
            _set_in_file(
                settings, target, service, pointer, name, keep_newline=keep_newline, force=not refuse_near_misses
            )


@secret.command("generate")
@click.argument("environment")
@options.dry_run
@options.settings("data_dir", "environments_dir", "schemas_dir")
@click.pass_obj
def secret_generate(target: Target, environment: str, *, dry_run: bool, **flags: str | None) -> None:
    """Make the passwords that ENVIRONMENT lacks.

    Each required password or secret gets 32 random characters, sealed, in environments/<environment>-secrets.yaml, but
    only where nothing stands. Keys and tokens that others give out cannot be made; they are listed. Works with and
    without a running daemon, and before the environment is valid. No value is shown.

    Examples:
      aliciacfg secret generate prod
      aliciacfg secret generate prod --dry-run
    """
    settings = options.daemon_settings(flags).settings
    require_home(settings)
    with exit_on_error():
        _generate(settings, target, environment, dry_run=dry_run)


def _set_at_run_time(target: Target, service: str, pointer: str, fields: dict[str, Any], *, keep_newline: bool) -> None:
    from aliciacfg.core.missing_secrets import as_patch

    key = sealing_keys.published(target, None, None)
    value = _read(f"{pointer} of {service}", keep_newline=keep_newline)
    box = _sealed_value(key, value, service, fields["environment"], pointer)
    answer = ask(target, "patch", service, options.request_fields({**fields, "patch": as_patch({pointer: box})}))
    shown = {name: answer.get(name) for name in ("service", "environment", "revision", "changed")}
    output.print_result(
        {**shown, "pointer": pointer, "key_id": key.key_id},
        lambda: [
            f"{pointer} of {service} in {answer.get('environment')}: "
            + ("is that already" if answer.get("unchanged") else f"set at run time, revision {answer.get('revision')}")
        ],
    )


def _read(label: str, *, keep_newline: bool) -> str:
    """Return the secret that is typed or piped; what only stands for one ends the program."""
    from aliciacfg.sealing.boxes import resembles_sealed

    value = inputs.read_secret(label, keep_newline=keep_newline)
    if value.strip() == REDACTED:
        fail(f"{REDACTED} stands for a secret in answers and is none itself", EXIT_USAGE)
    if resembles_sealed(value, at_secret=True):
        fail("this is a damaged sealed value; give the secret itself", EXIT_USAGE)
    return value


def _sealed_value(key: "PublicKey", value: str, service: str, environment: str | None, pointer: str) -> str:
    """Seal a secret; one that `aliciacfg seal` has sealed stays as it is."""
    from aliciacfg.sealing.boxes import is_sealed, seal_for

    if is_sealed(value):
        return value
    return seal_for(key, value, service=service, environment=environment, pointer=pointer)


def _set_in_file(
    settings: "Settings",
    target: Target,
    service: str,
    pointer: str,
    environment: str,
    *,
    keep_newline: bool,
    force: bool,
) -> None:
    from aliciacfg.core.lacking_secrets import lacks_in_files
    from aliciacfg.core.missing_secrets import as_patch
    from aliciacfg.sources.source_files import SourceFiles

    sources = SourceFiles(settings).load()
    found = home.environment_of(sources, environment)
    if service not in found.services:
        fail(
            f"{environment} has no service {service!r}; there are: {', '.join(sorted(found.services)) or 'none'}",
            EXIT_CODES["not_found"],
            hint=_hint_on_unknown(settings, service, environment, found.services),
        )
    meant = _meant(sources.schema(service), pointer)
    if meant and not force:
        fail(
            f"no schema knows {pointer} of {service}",
            EXIT_CODES["invalid_request"],
            hint=f"did you mean {meant}? If not, add --force",
        )
    if pointer not in sources.schema(service).secrets(as_patch({pointer: "x"})):
        mark = mark_of(settings, service, pointer)
        fail(
            f"{pointer} of {service} is not a secret, so a sealed value would be refused there. "
            + (str(mark) if mark else f"Mark it with x-sensitive: true in {settings.schemas_dir}/{service}.yaml"),
            EXIT_CODES["invalid_request"],
        )
    key = sealing_keys.of_home(settings, target)
    value = _read(f"{pointer} of {service} in {environment}", keep_newline=keep_newline)
    edits = home.edits_of(settings)
    path = edits.secrets(environment)
    # First in plain text, to see whether it is valid there; the file never holds it so.
    edits.set_service(path, service, as_patch({pointer: value}))
    refused = _problems_around(settings, edits, key, service, environment, pointer)
    if refused:
        fail(
            "\n".join(["nothing was written:", *home.problem_lines(refused, service)]), EXIT_CODES["validation_failed"]
        )
    box = _sealed_value(key.public, value, service, environment, pointer)
    edits.set_service(path, service, as_patch({pointer: box}))
    elsewhere = [
        name
        for name, other in sources.environments.items()
        if name != environment and service in other.services and lacks_in_files(sources, service, pointer, name)
    ]
    others = _with_another_value(sources, key.keyring, service, pointer, value, unless=environment)
    loaded, waits = home.write_secrets(settings, edits, key.keyring, service)
    output.print_result(
        {
            "service": service,
            "environment": environment,
            "pointer": pointer,
            "file": str(path),
            "key_id": key.public.key_id,
            "lacking_in": elsewhere,
            "others": [{"environment": other.name, "file": other.file, "line": other.line} for other in others],
            "waits_for": waits,
            "loaded": loaded,
        },
        lambda: [
            f"{pointer} of {service} in {environment}: sealed, in {path}",
            *_on_loading(loaded=loaded, waits=waits),
            *(
                f"{name} lacks it: {command}"
                for name in elsewhere
                if (command := f"aliciacfg secret set {service} {pointer} -e {name}") not in waits
            ),
            *(
                f"{other.name} still has another one, from {other.place}; to set it there too: "
                f"aliciacfg secret set {service} {pointer} -e {other.name}"
                for other in others
            ),
        ],
    )
    if loaded:
        warn_if_shadowed(settings, path, [f"/services/{documents.escape(service)}{pointer}"])


@dataclass(frozen=True, slots=True)
class _Other:
    """An environment with another value, and where that stands."""

    name: str
    file: str
    line: int | None

    @property
    def place(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


def _with_another_value(
    sources: "Sources", keyring: "Keyring | None", service: str, pointer: str, value: str, *, unless: str
) -> list[_Other]:
    """Return the other environments whose files have another value, or one that does not open, at a place."""
    from aliciacfg.sealing.boxes import CannotOpen, is_sealed

    if is_sealed(value):
        # Sealed elsewhere, for this environment.
        return []
    found: list[_Other] = []
    for name, other in sources.environments.items():
        if name == unless or other.problems or service not in other.services:
            continue
        values = ((layer, documents.find(layer.patch, pointer)) for layer in reversed(other.layers(service)))
        layer, there = next(((layer, at) for layer, at in values if isinstance(at, str)), (None, ""))
        if layer is None:
            continue
        if keyring is not None and is_sealed(there):
            with contextlib.suppress(CannotOpen):
                there = keyring.open(there, service=service, environment=name, pointer=pointer)
        if there != value:
            found.append(_Other(name, layer.file, layer.line(pointer)))
    return found


def _meant(schema: "ServiceSchema", pointer: str) -> str | None:
    """Return the place that a pointer which the schema does not know is probably a misspelling of; None if none is."""
    from aliciacfg.core.missing_secrets import as_patch
    from aliciacfg.schemas.near_misses import suggestions

    unknown = schema.unknown(as_patch({pointer: "x"}))
    meant = suggestions(schema.tree, unknown)
    # An object on the way may be what is misspelt.
    return next((meant[at] + pointer.removeprefix(at) for at in unknown if at in meant), None)


def _problems_around(
    settings: "Settings", edits: "FileEdits", key: "SealingKey", service: str, environment: str, pointer: str
) -> "list[FileProblem]":
    """Return what would be wrong with a place, with what it is inside because of these edits, or with whole files."""

    def found(made: "FileEdits") -> "list[FileProblem]":
        return home.problems_with(settings, made, key.keyring, service, environment=environment)

    problems = [
        problem
        for problem in found(edits)
        if not problem.configurations or pointer == problem.pointer or pointer.startswith(f"{problem.pointer}/")
    ]
    if all(problem.pointer == pointer or not problem.configurations for problem in problems):
        return problems
    known = {problem.pointer for problem in found(home.edits_of(settings)) if problem.configurations}
    return [problem for problem in problems if problem.pointer == pointer or problem.pointer not in known]


def _hint_on_unknown(settings: "Settings", service: str, environment: str, known: "Iterable[str]") -> str:
    answer = ask_daemon(settings, "get", service, {"environment": environment})
    if answer is not None and answer.get("status") == "success":
        return "the service was made at run time, so its secret belongs there too: add --overlay"
    return did_you_mean(close_to(service, known)) or f"aliciacfg service add {service}"


def _generate(settings: "Settings", target: Target, environment: str, *, dry_run: bool) -> None:
    from aliciacfg.core.composer import Composer
    from aliciacfg.core.lacking_secrets import by_service
    from aliciacfg.core.missing_secrets import find_missing
    from aliciacfg.sealing.boxes import Keyring
    from aliciacfg.sources.source_files import SourceFiles

    sources = SourceFiles(settings).load()
    found = home.environment_of(sources, environment)
    key = None if dry_run else sealing_keys.of_home(settings, target)
    keyring = (key and key.keyring) or Keyring.ephemeral()
    composer = Composer(sources, keyring, limits=settings.document_limits)
    standing = _standing(settings, found)
    missing = find_missing(composer, found, standing=standing)
    loaded, waits = False, list[str]()
    edits = home.edits_of(settings)
    path = edits.secrets(environment)
    if key is not None and missing.made:
        edits.set_services(path, sealed(missing, key, environment))
        loaded, waits = home.write_secrets(settings, edits, keyring, None)
    made = [f"{service} {pointer}" for service, places in missing.made.items() for pointer in places]
    active = home.active_environment(settings)
    shown = {*standing, *((item.service, item.pointer) for item in missing.needed)}
    lacking = {
        service: fresh
        for service, places in by_service(sources, active=active, other=environment).items()
        if (fresh := [at for at in places if (service, at) not in shown and at not in missing.made.get(service, {})])
    }
    output.print_result(
        {
            "environment": environment,
            "file": str(path),
            "made": made,
            "needed": [
                {"service": item.service, "pointer": item.pointer, "reason": item.reason} for item in missing.needed
            ],
            "lacking_secrets": lacking,
            "waits_for": waits,
            "dry_run": dry_run,
            "loaded": loaded,
        },
        lambda: [
            *_generated_lines(environment, path, missing, dry_run=dry_run, loaded=loaded, waits=waits),
            *(
                formatting.lacking_lines(environment, lacking, than=active)
                if made or missing.needed
                else _nothing_made(environment, lacking, than=active)
            ),
        ],
        names=lambda: made,
    )


def sealed(
    missing: "MissingSecrets", key: "SealingKey", environment: str | None
) -> "Mapping[str, documents.JsonObject]":
    """Return the made secrets as members of their services, sealed for an environment, or for all."""
    from aliciacfg.core.missing_secrets import as_patch
    from aliciacfg.sealing.boxes import seal_for

    return {
        service: as_patch(
            {
                pointer: seal_for(key.public, value, service=service, environment=environment, pointer=pointer)
                for pointer, value in places.items()
            }
        )
        for service, places in missing.made.items()
    }


def _standing(settings: "Settings", environment: "Environment") -> set[tuple[str, str]]:
    """Return the places of secrets that the store's configurations have: a run-time change may have set them."""
    from aliciacfg.storage.backend import database_in

    if not database_in(Path(settings.data_dir), settings.database_url).exists():
        return set()
    places: set[tuple[str, str]] = set()
    fields: dict[str, Any] = {"environment": environment.name, "include": "config", "limit": 1000}
    while True:
        answer = administer_with(settings, "list", None, fields)
        page = parse(exit_if_refused(answer), ListAnswer)
        for item in page.configs:
            config = item.config if isinstance(item.config, dict) else {}
            places |= {(item.service, pointer) for pointer, _ in documents.walk_strings(config)}
        if page.next is None:
            return places
        fields["after"] = page.next


def _nothing_made(environment: str, lacking: "Mapping[str, list[str]]", *, than: str) -> "list[Line]":
    """Return what to say where no password is missing: one sentence, also where another environment has more."""
    if not lacking:
        return [[("nothing to make: ", "green"), f"{environment} lacks no password"]]
    _, *commands = formatting.lacking_lines(environment, lacking, than=than)
    count = sum(map(len, lacking.values()))
    noun = "a secret" if count == 1 else f"{count} secrets"
    only = f"{environment} lacks no password that is required, only {noun} that {than} has:"
    return [[("nothing to make: ", "green"), only], *commands]


def _generated_lines(
    environment: str, path: Path, missing: "MissingSecrets", *, dry_run: bool, loaded: bool, waits: list[str]
) -> "Iterable[Line]":
    made = [(service, pointer) for service, places in missing.made.items() for pointer in places]
    if not made and missing.needed:
        yield [("nothing to make: ", "green"), f"{environment} lacks no password"]
    elif made:
        verb = "would make" if dry_run else "made"
        noun = "secret" if len(made) == 1 else "secrets"
        yield [(f"{verb} {len(made)} {noun}", "green"), f" for {environment} in {path}, sealed:"]
        yield from (f"  {service} {pointer}" for service, pointer in made[:_MAX_LISTED])
        if len(made) > _MAX_LISTED:
            yield f"  and {len(made) - _MAX_LISTED} more"
        yield "Does another program know one of them already? Then set it: aliciacfg secret set SERVICE POINTER"
        if not dry_run:
            yield from _on_loading(loaded=loaded, waits=waits)
    if missing.needed:
        yield [("still missing", "bold yellow"), ": a provider issues these, so you set them:"]
        yield from (f"  aliciacfg secret set {item.service} {item.pointer} -e {environment}" for item in missing.needed)


def _on_loading(*, loaded: bool, waits: list[str]) -> "Iterable[Line]":
    if waits:
        yield [("the running daemon loads it when nothing is missing any more:", "yellow")]
        yield from (f"  {command}" for command in waits[:_MAX_LISTED])
    else:
        yield "the running daemon has loaded the file" if loaded else "the daemon loads the file when it starts"
