"""The environment and schema files that are in force, and what they define."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

import msgspec

from aliciacfg.api.answers.refused_edits import RefusedEdit
from aliciacfg.core import restore
from aliciacfg.core.missing_secrets import can_be_made
from aliciacfg.core.plan import Lacking, Plan, Problems
from aliciacfg.core.planner import Planner
from aliciacfg.documents import JsonObject
from aliciacfg.errors import Problem, SourceProblem, Unavailable
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.names import SECRETS_SUFFIX
from aliciacfg.model.records import ServingSchema
from aliciacfg.sources.layers import BASE, Sources, Stamps

# More are hardly corrected at once, and every answer has them.
_MAX_REFUSED = 10
_SERVICE_TOKENS = 2
_MAX_REMEDIES = 20


@dataclass(slots=True)
class LoadedFiles:
    """The files in force, those of the last accepted load; register ``on_commit`` with ``Commits``.

    Attributes:
        defined: The services that the files name, by environment.
        schemas: The schema documents that stored configurations were last checked against, by service; None for a
            service whose schema file is gone.
        found: The names of the files that contain something.
        current_planner: Plans on these files; None until a load succeeds.
        environment_problems: The problems of each environment.
        unopened: The services whose files contain values sealed with missing keys, by environment.
        lacking: The missing secrets of services in which nothing else is wrong, by environment.
        hidden: Values of files that are not valid and that an overlay hides, by environment.
        refused: The problems of files on disk that were refused since; none if the files on disk are in force.
        when_refused: Called when files are refused, and when none is refused any more.
        not_stored: Why the store could not take what the files say at the start, so that none are in force; None if
            that was not the reason.
    """

    defined: Mapping[str, list[str]]
    schemas: Mapping[str, JsonObject | None]
    found: Collection[str] = ()
    current_planner: Planner | None = None
    environment_problems: dict[str, Problems] = field(default_factory=dict[str, Problems])
    unopened: dict[str, Problems] = field(default_factory=dict[str, Problems])
    lacking: dict[str, Lacking] = field(default_factory=dict[str, Lacking])
    hidden: dict[str, Problems] = field(default_factory=dict[str, Problems])
    refused: tuple[SourceProblem, ...] = ()
    when_refused: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    not_stored: str | None = None

    def replace(
        self,
        planner: Planner,
        *,
        problems: dict[str, Problems],
        unopened: dict[str, Problems],
        lacking: dict[str, Lacking],
        hidden: dict[str, Problems],
        defined: Mapping[str, list[str]],
        schemas: Mapping[str, JsonObject | None],
    ) -> None:
        """Put other files in force; arguments as the attributes."""
        self.current_planner = planner
        self.environment_problems = problems
        self.unopened = unopened
        self.lacking = lacking
        self.hidden = hidden
        self.found = filled(planner.composer.sources)
        self.defined = defined
        self.schemas = schemas
        if self.refused:
            self.refuse(())
        self.not_stored = None

    def follow(self, schemas: Iterable[ServingSchema], meta: Mapping[str, str]) -> None:
        """Note what another daemon put in force, as far as the store says it; the files themselves stay.

        Args:
            schemas: The schemas that changed.
            meta: The names with values that changed.
        """
        changed = {
            item.service: None if item.document is None else msgspec.json.decode(item.document) for item in schemas
        }
        if changed:
            self.schemas = {**self.schemas, **changed}
        self.defined, self.found = restore.marked_files(meta, defined=self.defined, found=self.found)

    def on_commit(self, plan: Plan) -> None:
        """Drop the problems of configurations that a plan made valid."""
        for environments in (self.environment_problems, self.unopened, self.lacking):
            # Mostly none has problems, and a plan may settle all of 10,000.
            for config_id in plan.settled if any(environments.values()) else ():
                environments.get(config_id.environment, {}).pop(config_id.service, None)

    def parts(self) -> list[object]:
        """Return what the files in force consist of, in small pieces, for ``memory.free_slowly``."""
        if self.current_planner is None:
            return []
        composer = self.current_planner.composer
        files = {id(file): file for found in composer.sources.environments.values() for file in found.files}.values()
        return [*composer.parts(), *(patch for file in files for patch in file.services.values())]

    @property
    def sources(self) -> Sources | None:
        """The parsed files; None while none can be used."""
        return None if self.current_planner is None else self.current_planner.composer.sources

    @property
    def stamps(self) -> Stamps | None:
        """The state of the files on disk when they were read; None while none can be used."""
        return None if self.sources is None else self.sources.stamps

    def problems(self, environment: str) -> list[Problem]:
        """Return the reasons why an environment cannot be activated."""
        return [problem for listed in self.environment_problems.get(environment, {}).values() for problem in listed]

    def refused_by_environment(self, names: Collection[str], active: str) -> dict[str, list[Problem]]:
        """Return the problems of refused files by the environment that they concern.

        Args:
            names: The environments.
            active: The active environment; problems of files of no environment, such as schemas, are its own.
        """
        found: dict[str, list[Problem]] = {}
        for problem in self.refused:
            stem = PurePath(problem.file).stem
            own = stem.removesuffix(SECRETS_SUFFIX)
            for name in names if stem == BASE else [own if own in names else active]:
                found.setdefault(name, []).append(problem.shown)
        return found

    @property
    def refused_place(self) -> str | None:
        """File and line of the first problem of refused files; None if no problem has a file."""
        first = next((problem for problem in self.refused if problem.file), None)
        if first is None:
            return None
        return first.file if first.line is None else f"{first.file}:{first.line}"

    def why_none(self) -> list[Problem]:
        """Return why no files are in force, so that no environment can be activated; nothing if some are."""
        if self.current_planner is not None:
            return []
        return [problem.shown for problem in self.refused] or [Problem("", self._why_none)]

    @property
    def _why_none(self) -> str:
        return self.not_stored or self._unusable

    @property
    def _unusable(self) -> str:
        place = "" if self.refused_place is None else f" ({self.refused_place})"
        return f"The environment files cannot be used{place}, so nothing can be changed; see the health alerts."

    def lacks_only_secrets(self, environment: str) -> bool:
        """Return whether an environment cannot be activated, and only because secrets are missing."""
        problems = self.environment_problems.get(environment, {}).keys() | self.unopened.get(environment, {}).keys()
        return bool(problems) and problems == self.lacking.get(environment, {}).keys()

    def hidden_in(self, environment: str, service: str | None = None) -> list[Problem]:
        """Return the values of files that are not valid and that overlays hide, of an environment or a service."""
        found = self.hidden.get(environment, {})
        return [problem for name, listed in found.items() if service in (None, name) for problem in listed]

    def refuse(self, problems: Iterable[SourceProblem]) -> None:
        """Note why files on disk are not in force."""
        self.refused = tuple(problems)
        for listener in self.when_refused:
            listener()

    def refused_edits(
        self, environment: str | None = None, *, sees: Callable[[str | None], bool] = lambda _: True
    ) -> list[RefusedEdit]:
        """Return why files on disk are not in force.

        Args:
            environment: Only what concerns this environment; None for all.
            sees: Whether the reader may know what is wrong with a service, or for None, with a file as a whole.
        """
        names = {*self.defined} if self.sources is None else {*self.sources.environments}
        services = {service for listed in self.defined.values() for service in listed}
        found: dict[RefusedEdit, None] = {}
        for problem in self.refused:
            concerned = _concerned(problem, names)
            if environment is None or concerned is None or environment in concerned:
                found[_refused_edit(problem, services, sees=sees)] = None
                if len(found) == _MAX_REFUSED:
                    break
        return list(found)

    def remedies(self, environment: str, service: str | None = None) -> list[str]:
        """Return the commands that correct all that is wrong with an environment, or with a service in it; or none."""
        lacking = self.lacking.get(environment, {})
        if not (self.lacks_only_secrets(environment) if service is None else service in lacking):
            return []
        places = [(name, at) for name in ([service] if service else sorted(lacking)) for at in lacking[name]]
        given = [f"aliciacfg secret set {name} {at} -e {environment}" for name, at in places if not can_be_made(at)]
        made = [f"aliciacfg secret generate {environment}"] if len(given) < len(places) else []
        return made + given[:_MAX_REMEDIES]

    def unopened_in(self, environment: str) -> list[Problem]:
        """Return the values in files that are sealed with missing keys."""
        return [problem for listed in self.unopened.get(environment, {}).values() for problem in listed]

    def problem_of(self, config_id: ConfigId) -> Problem | None:
        """Return the first reason why the files yield no configuration of a service."""
        environment, service = config_id
        listed, unopened = self.environment_problems.get(environment, {}), self.unopened.get(environment, {})
        found = listed.get(service) or listed.get("") or unopened.get(service)
        return found[0] if found else None

    def problems_of(self, config_id: ConfigId) -> list[Problem]:
        """Return every reason why the files yield no configuration of a service."""
        environment, service = config_id
        listed, unopened = self.environment_problems.get(environment, {}), self.unopened.get(environment, {})
        return [*listed.get("", ()), *listed.get(service, ()), *unopened.get(service, ())]

    def any_planner(self) -> Planner:
        """Return the planner.

        Raises:
            Unavailable: No files can be used.
        """
        if self.current_planner is None:
            raise Unavailable(self._why_none)
        return self.current_planner

    def planner(self, environment: str) -> Planner:
        """Return the planner, if the files of an environment can be composed from.

        Raises:
            Unavailable: They cannot.
        """
        planner = self.any_planner()
        found = planner.composer.sources.environments.get(environment)
        if found is None:
            raise Unavailable(f"The files of {environment} are gone, so nothing can be changed in it.")
        if found.problems:
            raise Unavailable(
                f"The files of {environment} cannot be used, so nothing can be changed in it: {found.problems[0]}"
            )
        return planner

    def defines(self, config_id: ConfigId) -> bool:
        """Return whether the files name a service; if they cannot be used, whether the last ones did."""
        sources = self.sources
        if sources is None:
            return config_id.service in self.defined.get(config_id.environment, ())
        found = sources.environments.get(config_id.environment)
        return found is not None and config_id.service in found.services


def _concerned(problem: SourceProblem, names: Collection[str]) -> Collection[str] | None:
    """Return the environments that a problem of files concerns; None for the active one or all."""
    file = problem.file if problem.place is None else problem.place[0]
    stem = PurePath(file).stem
    own = stem.removesuffix(SECRETS_SUFFIX)
    return [own] if stem != BASE and own in names else None


def _refused_edit(
    problem: SourceProblem, services: Collection[str], *, sees: Callable[[str | None], bool]
) -> RefusedEdit:
    """Return a problem as readers may see it.

    Args:
        problem: The problem.
        services: The services of the files in force. Any other name in a pointer may be one that only the file has.
        sees: As for ``refused_edits``.
    """
    file, line = (problem.file, problem.line) if problem.place is None else problem.place
    message = problem.message.removeprefix(f"{file}: " if line is None else f"{file}:{line}: ")
    tokens = problem.pointer.split("/")
    service = tokens[2] if tokens[:2] == ["", "services"] and len(tokens) > _SERVICE_TOKENS else None
    if not sees(service):
        return RefusedEdit(file=file, line=line)
    known = service if service in services else None
    return RefusedEdit(file=file, line=line, message=message, service=problem.service or known or _of_schema(file))


def _of_schema(file: str) -> str | None:
    """Return the service whose schema or migration a file is; None if it is another file."""
    folder, _, name = file.partition("/")
    if folder != "schemas" or not name:
        return None
    # The directory of its migrations has the name of the service, and a schema that with an ending.
    service, is_inside, _ = name.partition("/")
    return service if is_inside else PurePath(service).stem


def filled(sources: Sources) -> list[str]:
    """Return the names of the files that contain something."""
    return sorted(name for name, contains in sources.files.items() if contains)
