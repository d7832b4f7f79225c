"""The operations that show what files and run-time changes make of configurations, valid or not yet."""

from collections.abc import Mapping
from dataclasses import dataclass

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers.compare import CompareAnswer
from aliciacfg.api.answers.environments import EnvironmentItem, EnvironmentsAnswer
from aliciacfg.api.answers.explain import ExplainAnswer, Explained
from aliciacfg.api.encoding import Answer
from aliciacfg.api.requests import CompareRequest, CurrentRequest, Request
from aliciacfg.core.composer import Composer
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.drafts import Draft, Drafts
from aliciacfg.core.lacking_secrets import LackingSecrets
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.state import Entry, State
from aliciacfg.documents import JsonObject, has
from aliciacfg.errors import InvalidRequest, OperationError, Unavailable
from aliciacfg.model import names
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Record
from aliciacfg.model.redaction import REDACTED
from aliciacfg.operations.compare import Side, compare
from aliciacfg.operations.explain import DAEMON, OVERLAY, SCHEMA, ExplainedLayer, Explainer
from aliciacfg.sources.layers import Environment


@dataclass(frozen=True, slots=True)
class _Compared:
    """One side of a comparison.

    Attributes:
        config_id: The configuration.
        revision: Its revision; 0 for a draft.
        side: Its content.
        draft: The draft, if the files yield nothing valid.
    """

    config_id: ConfigId
    revision: int
    side: Side
    draft: Draft | None = None


class EnvironmentReads:
    """The operations ``compare``, ``explain`` and ``environments``."""

    def __init__(
        self,
        *,
        configurations: Configurations,
        state: State,
        files: LoadedFiles,
        drafts: Drafts,
        authorizer: Authorizer,
    ) -> None:
        self._configurations = configurations
        self._state = state
        self._files = files
        self._drafts = drafts
        self._lacking = LackingSecrets(state, files, drafts)
        self._authorizer = authorizer

    async def explain(self, _caller: Caller, service: str, request: CurrentRequest) -> Answer:
        """Return the origin of each value of a configuration, and the values that it overrides.

        Of a configuration that is not valid, the values are those that files and run-time changes say, and ``problems``
        lists what is wrong.
        """
        config_id = self._configurations.config_id(service, request.environment)
        draft = self._drafts.of(config_id)
        if draft is not None:
            return Answer.of(self._explained_draft(config_id, draft))
        environment = config_id.environment
        entry, record = self._configurations.live_entry(config_id)
        composer = self._files.planner(environment).composer
        if entry.effective is None or not _yield_stored(composer, config_id, entry):
            raise Unavailable(
                f"The files of {environment} do not yield the stored configuration of {service}; `environments` lists "
                "their problems."
            )
        explainer = Explainer(
            entry.effective.document,
            _layers(composer, composer.sources.environments[environment], service, entry.overlay, entry),
            composer.sources.schema(service),
            secrets=entry.effective.secrets,
        )
        version = Explained(value=record.version, layer=DAEMON, line=None, overridden=[])
        return Answer.of(
            ExplainAnswer(
                service=service,
                environment=environment,
                revision=record.revision,
                values={**explainer.values(), "/version": version},
                removed=explainer.removed(),
                hidden=self._files.hidden_in(environment, service),
            )
        )

    def _explained_draft(self, config_id: ConfigId, draft: Draft) -> ExplainAnswer:
        environment, service = config_id
        composer, entry = self._files.any_planner().composer, self._state.committed(config_id)
        explainer = Explainer(
            draft.document,
            _layers(composer, draft.environment, service, draft.overlay, entry),
            composer.sources.schema(service),
            secrets=draft.secrets,
        )
        return ExplainAnswer(
            service=service,
            environment=environment,
            revision=entry.revision,
            values=explainer.values(),
            removed=explainer.removed(),
            missing=draft.missing,
            problems=draft.problems,
        )

    async def compare(self, caller: Caller, service: str, request: CompareRequest) -> Answer:
        """Compare two environments or two revisions of a service.

        Where an environment yields no valid configuration yet, what its files say is compared, and ``problems`` and
        ``missing`` list what it needs.
        """
        names.check_service(service)
        if request.env1 is request.env2 is request.rev1 is request.rev2 is None:
            raise InvalidRequest("There is nothing to compare: send env1 and env2, or rev1 and rev2.")
        first = self._configurations.environment(request.environment if request.env1 is None else request.env1)
        second = self._configurations.environment(first if request.env2 is None else request.env2)
        excluded = {"version"} if first == second else {"version", "environment"}
        one = await self._compared(ConfigId(first, service), request.rev1, excluded)
        two = await self._compared(ConfigId(second, service), request.rev2, excluded)
        compare_secrets = self._authorizer.access.administers(caller)
        result = compare(one.side, two.side, compare_secrets=compare_secrets)
        drafts = {item.config_id.environment: item.draft for item in (one, two) if item.draft is not None}
        lost = [pointer for pointer in one.side.secrets if not has(two.side.document, pointer)]
        return Answer.of(
            CompareAnswer(
                service=service,
                env1=first,
                env2=second,
                rev1=one.revision,
                rev2=two.revision,
                equal=result.equal,
                changed=result.changed,
                only_in_env1=result.only_in_first,
                only_in_env2=result.only_in_second,
                secrets=result.secrets,
                hidden=result.hidden,
                missing={name: draft.missing for name, draft in drafts.items()},
                problems={name: draft.problems for name, draft in drafts.items()},
                remedies=[remedy for name in drafts for remedy in self._files.remedies(name, service)],
                lacking_secrets=sorted(lost) if first != second else [],
            )
        )

    async def environments(self, _caller: Caller, _request: Request) -> Answer:
        """Return every environment with its problems."""
        files, active = self._files, self._state.active
        environments: Mapping[str, Environment] = {} if files.sources is None else files.sources.environments
        items: list[EnvironmentItem] = []
        # Without files in force, the environments are those of the last ones that were.
        names = list(environments) or sorted({*files.defined, active})
        refused = files.refused_by_environment(names, active)
        why_none = files.why_none()
        for name in names:
            environment = environments.get(name) or Environment(name, ())
            problems = [*refused.get(name, ()), *why_none, *files.problems(name), *files.unopened_in(name)]
            items.append(
                EnvironmentItem(
                    name=name,
                    protected=environment.protected,
                    files=[file.file for file in environment.files],
                    services=sorted(environment.draft.services or files.defined.get(name, ())),
                    problems=list(dict.fromkeys(problems)),
                    remedies=self._files.remedies(name),
                    hidden=files.hidden_in(name),
                    lacking_secrets=await self._lacking.of(name, active=active),
                )
            )
        return Answer.of(EnvironmentsAnswer(active=active, environments=items, refused_edits=files.refused_edits()))

    async def _compared(self, config_id: ConfigId, revision: int | None, excluded: set[str]) -> _Compared:
        draft = None if revision is not None else self._drafts.of(config_id)
        if draft is not None:
            return _Compared(config_id, 0, Side(_without(draft.document, excluded), draft.secrets), draft)
        if revision is None:
            record = self._configurations.live(config_id)
        else:
            record = await self._configurations.revision(config_id, revision)
        return _Compared(config_id, record.revision, self._side(record, excluded))

    def _side(self, record: Record, excluded: set[str]) -> Side:
        """Return a revision for comparing, without the members in ``excluded``."""
        opened = self._configurations.open_record(record)
        unopened = {problem.pointer: REDACTED for problem in opened.problems}
        return Side(_without(opened.document, excluded), {**opened.secrets, **unopened})


def _without(document: JsonObject, excluded: set[str]) -> JsonObject:
    return {key: value for key, value in document.items() if key not in excluded}


def _layers(
    composer: Composer, environment: Environment, service: str, overlay: JsonObject | None, entry: Entry
) -> list[ExplainedLayer]:
    """Return the layers of a configuration, lowest first."""
    layers = [ExplainedLayer(SCHEMA, composer.sources.defaults(environment.name, service))]
    layers += [
        ExplainedLayer(f"{layer.file}#{layer.section}", layer.patch, layer.line, secret=layer.secret)
        for layer in environment.layers(service)
    ]
    if overlay:
        layers.append(ExplainedLayer(OVERLAY, overlay, revisions=entry.origins))
    return layers


def _yield_stored(composer: Composer, config_id: ConfigId, entry: Entry) -> bool:
    """Return whether files and overlay yield the stored configuration; after a refused edit they do not."""
    environment, service = config_id
    try:
        kept = None if entry.effective is None else entry.effective.secrets
        made = composer.compose(environment, service, entry.overlay, kept=kept)
    except OperationError:
        return False
    return entry.live is not None and made.checksum == entry.live.checksum
