"""Loads environment and schema files, at the start and after every edit, as a whole or not at all."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import chain
from typing import Literal

import structlog

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.core import restore
from aliciacfg.core.commits import Commits
from aliciacfg.core.file_changes import FILES, NothingLeft, SchemaRefused, serving_schemas
from aliciacfg.core.file_marks import FileMarks
from aliciacfg.core.file_warnings import FileWarnings, look_at_files
from aliciacfg.core.load_planner import LoadPlanner, PlannedLoad, ReloadResult
from aliciacfg.core.load_reports import LoadReports
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.restore import Restored
from aliciacfg.core.scrubbing import Scrubbing
from aliciacfg.core.served_files import OthersLoaded, ServedFiles
from aliciacfg.core.state import State
from aliciacfg.core.vanished_files import FilesVanished, VanishedFiles
from aliciacfg.errors import SourceError, SourceProblem, Unavailable
from aliciacfg.model.config_id import ConfigId
from aliciacfg.process.memory import free_slowly, give_back, making_what_stays
from aliciacfg.sources.file_texts import FileTexts
from aliciacfg.sources.layers import Sources
from aliciacfg.sources.source_files import VARIABLES, SourceFiles

_log = structlog.get_logger(__name__)

# From which number on a load takes so much memory that it is worth to hold up others less, in more steps.
_MANY_SERVICES = 1_000
_UNSTORED = "The store cannot write what the files changed."

Patience = Literal["all", "endings", "none"]
"""What is put off while a file in force is missing or empty: every change, only the end of configurations, or nothing.

The file watcher puts off everything. A caller who asks for a load means it, but hardly that services end.
"""


class Reloads:
    """Loads the files; register ``on_commit`` with ``Commits``.

    Attributes:
        degraded: The reason why the files on disk are not the ones in force; None if they are.
        refused_schemas: The schema files on disk in whose place older ones are in force since the start.
    """

    def __init__(
        self,
        *,
        source_files: SourceFiles,
        planner: LoadPlanner,
        marks: FileMarks,
        reports: LoadReports,
        files: LoadedFiles,
        state: State,
        commits: Commits,
        scrubbing: Scrubbing,
        authorizer: Authorizer,
        vanished: VanishedFiles,
        served: ServedFiles | None,
    ) -> None:
        """Hold the parts.

        Args:
            source_files: Reads the files.
            planner: Plans what they change.
            marks: What the store says about the files in force.
            reports: Reports loads to operators.
            files: The files in force; replaced when a load is durable.
            state: Has the configurations.
            commits: Makes the changes durable.
            scrubbing: Removes what was in plain text before.
            authorizer: Applies the access rules of the files.
            vanished: Puts off what would end because a file is missing.
            served: The files that serve, where several daemons compose from the same; None where those on the disk do.
        """
        self._served = served
        self._source_files = source_files
        self._planner = planner
        self._marks = marks
        self._reports = reports
        self._files = files
        self._state = state
        self._commits = commits
        self._scrubbing = scrubbing
        self._authorizer = authorizer
        # Loads run one after another: what was read first must not replace what was read later.
        self._reloading = asyncio.Lock()
        # Services whose configurations made the last load or migration fail.
        self._blocking: frozenset[str] = frozenset()
        # The active environment before a start, which may fail.
        self._active_before = state.active
        self.degraded: str | None = None
        self.refused_schemas: list[str] = []
        self._started = False
        self._vanished = vanished
        self._unblocked = False

    @property
    def worth_retrying(self) -> bool:
        """Whether another load may succeed, because a configuration that was in the way changed, or time is over."""
        return self._unblocked or self._vanished.due

    async def start(self, restored: Restored, requested_environment: str, *, degraded: bool = True) -> bool:
        """Load the files for the first time.

        Args:
            restored: The content of the store.
            requested_environment: The ``ENVIRONMENT`` setting; if it differs from the previous start's, it becomes
                the active environment.
            degraded: If the files are not valid, or the store cannot write, serve what was recorded last.

        Returns:
            Whether the start is complete; if not, because the store cannot write what the files changed, it is to be
            repeated when the store can. Repeating a complete one changes nothing: another environment may have been
            activated since.

        Raises:
            SourceError: The active environment is not valid, and there is nothing recorded to serve instead, or
                ``ENVIRONMENT`` asks for another one than before.
            Unavailable: The store cannot write, and there is nothing recorded to serve.
        """
        async with self._reloading:
            if not self._started:
                self._started = await self._start(restored, requested_environment, degraded=degraded)
            return self._started

    async def _start(self, restored: Restored, requested_environment: str, *, degraded: bool) -> bool:
        moved = restored.moves_to(requested_environment)
        self._active_before = self._state.active
        if moved:
            self._state.active = requested_environment
        active = self._state.active
        # An environment that cannot be activated is not moved to: the bus keeps what it holds.
        falls_back = degraded and not moved and self._state.count(active) > 0
        meta = self._start_marks(restored, active, requested_environment)
        try:
            patience: Patience = "endings" if falls_back else "none"

            async def load(sources: Sources, beside: str | None = None) -> None:
                await self._load(
                    sources,
                    meta=meta,
                    moves_to=requested_environment if moved else None,
                    starting=True,
                    patience=patience,
                    beside=beside,
                )

            served = self._served
            await (
                load(await self._read_files())
                if served is None
                else self._start_shared(served, load, degraded=degraded)
            )
        except Unavailable as error:
            self._state.active = self._active_before
            if not degraded or not self._state.count(self._state.active):
                raise
            self.degraded = _UNSTORED
            self._files.not_stored = error.message
            await self._close_access()
            _log.warning("start_not_stored", reason=error.message, remedy="none needed; it is tried again")
            return False
        except SourceError as error:
            self._state.active = self._active_before
            if not falls_back:
                if self.degraded is not None:
                    # This start is a repeated one: the environment before is served already, and goes on.
                    self._degrade(error)
                raise
            await self._close_access()
            self._degrade(error)
        else:
            self.degraded = None if self.degraded == _UNSTORED else self.degraded
        return True

    def _start_marks(self, restored: Restored, active: str, requested: str) -> dict[str, str]:
        """Return what a start notes in the store; empty if it is there already."""
        meta = {restore.ACTIVE: active, restore.REQUESTED: requested}
        if meta == restored.start_marks:
            # A start that changes nothing needs no disk that can be written.
            meta = {}
        if self._served is None and restored.served:
            # The home was copied from a database that daemons share, and may be copied back.
            meta[restore.SERVED] = ""
        return meta

    async def _start_shared(
        self, served: ServedFiles, load: Callable[[Sources, str], Awaitable[None]], *, degraded: bool
    ) -> None:
        """Load what serves, or the files on the disk if this daemon is alone and they were edited.

        Args:
            served: Knows both.
            load: Puts files in force, beside those with the given digest.
            degraded: If the files on the disk are not valid, load what serves instead.

        Raises:
            SourceError: Neither can be used; or not those that are to be loaded.
            Unavailable: The store cannot be read or written.
        """
        refusal: SourceError | None = None
        while True:
            beside = served.digest
            try:
                own = None if refusal is not None else await served.to_start_with()
                if own is not None:
                    await load(await self._parse(own), beside)
                    return
                await load(await self._parse(await served.stored_texts()), beside)
            except OthersLoaded:
                # Another daemon that starts was faster.
                continue
            except SourceError as error:
                if refusal is not None or not served.digest or not degraded:
                    raise
                refusal = error
                continue
            if refusal is not None:
                self._degrade(refusal)
            return

    async def _close_access(self) -> None:
        """Refuse what needs a rule, unless it is certain that there are none: the files are not in force."""
        if self._marks.rules != "never" or await asyncio.to_thread(self._source_files.has_access_rules):
            self._authorizer.close()
            self._reports.access_closed()

    async def reload(
        self,
        *,
        dry_run: bool = False,
        migrate: ChangeContext | None = None,
        patience: Patience = "endings",
        own: bool = True,
    ) -> ReloadResult:
        """Read the files again and put them in force, as a whole or not at all.

        Args:
            dry_run: Only return what would change.
            migrate: Carry out the migrations that schemas wait for, for this reason.
            patience: What is put off while a file is missing.
            own: Whether the files on this disk are to serve where several daemons share a home; otherwise those are
                loaded again that do.

        Raises:
            FilesVanished: A file is missing and may come back; everything stays as it was.
            SourceError: The active environment would not be valid, or a schema would break a stored configuration;
                everything stays as it was.
            Unavailable: The store cannot write; everything stays as it was.
        """
        async with self._reloading, self._holding_up_little():
            if dry_run:
                return await self._load(await self._read_files(own=own), dry_run=True, migrate=migrate)
            self._unblocked = False
            while True:
                beside = None if own or self._served is None else self._served.digest
                try:
                    sources = await self._read_files(own=own)
                    result = await self._load(sources, migrate=migrate, patience=patience, beside=beside)
                except OthersLoaded:
                    continue
                except SourceError as error:
                    self._degrade(error)
                    raise
                self._accepted()
                return result

    async def take_over(self, served: ServedFiles) -> ReloadResult:
        """Put the files in force that the last look found on the disk, and that all daemons of the home have.

        Raises:
            OthersLoaded: Others put some in force meanwhile.
            SourceError: As ``reload``.
            Unavailable: As ``reload``.
        """
        async with self._reloading, self._holding_up_little():
            self._unblocked = False
            try:
                result = await self._load(await self._parse(served.own), patience="all", beside=served.digest)
            except SourceError as error:
                self._degrade(error)
                raise
            self._accepted()
            return result

    async def follow(self) -> None:
        """Put the files in force here that another daemon put in force; nothing is written.

        Raises:
            Unavailable: The store cannot be read.
        """
        served = self._served
        if served is None:
            return
        async with self._reloading, self._holding_up_little():
            changes, digest = served.changes, served.digest
            try:
                texts = await served.stored_texts()
                sources = await self._parse(texts)

                async def make(plan: Plan) -> PlannedLoad:
                    load = await self._planner.plan(
                        plan, sources, (), starting=True, history_sealed=True, migrate=None, dry_run=True
                    )
                    plan.on_commit.append(lambda: self._loaded(load))
                    plan.on_commit.append(lambda: served.followed(texts, digest, changes))
                    return load

                load = await self._commits.refresh(FILES, make)
            except SourceError as error:
                served.refuse(changes)
                self._degrade(error)
                return
            self._accepted()
            self._note_schemas(load)
            self._reports.loaded(sources, load.changes, FileWarnings([], []))
            _log.info("files_followed", count=len(texts.texts))

    async def look_at_ignored(self) -> None:
        """Report the files on the disk that are ignored: they are no edit, so no load reports them."""
        self._reports.set_aside(await asyncio.to_thread(self._source_files.ignored))

    async def store_again(self, served: ServedFiles) -> None:
        """Store what serves once more: it is missing in the database.

        Raises:
            Unavailable: The store cannot write.
        """

        async def make(plan: Plan) -> None:
            served.plan_again(plan)

        await self._commits.change(FILES, make, loads=True)

    def take_back(self) -> None:
        """Note that the files on the disk are those that serve again, if others were refused."""
        if self._files.refused:
            self._files.refuse(())
        self._accepted()
        _log.info("files_loaded", changed=[], count=0)

    def _accepted(self) -> None:
        """Note that the files on the disk, or those that others put in force, are in force, all of them."""
        self.degraded = None
        self.refused_schemas = []
        self._reports.accepted()
        self._vanished.settle()

    def on_commit(self, plan: Plan) -> None:
        """Note that a configuration changed that made the last load fail."""
        if self._blocking and any(config_id.service in self._blocking for config_id in plan.settled):
            self._unblocked = True

    async def _read_files(self, *, own: bool = True) -> Sources:
        """Read the files; where several daemons compose from the same, those on the disk or those that serve.

        Raises:
            SourceError: Shared files, or files of the active environment, cannot be used. What else is wrong would
                only follow from that: services and values of these files are missing.
        """
        if self._served is not None:
            if own:
                await self._served.look()
            return await self._parse(self._served.own if own else await self._served.stored_texts())
        try:
            sources = await asyncio.to_thread(self._source_files.load)
            environment = sources.environments.get(self._state.active)
            if environment is not None and environment.problems:
                raise SourceError(environment.problems)
        except SourceError as error:
            if VARIABLES in self._files.found and not await asyncio.to_thread(self._source_files.has_variables):
                message = "is missing or empty, but was in force; put it back, or set its variables elsewhere"
                raise SourceError([SourceProblem(VARIABLES, None, message), *error.problems]) from error
            raise
        return sources

    async def _parse(self, texts: FileTexts) -> Sources:
        """Parse the texts of files; errors as for ``_read_files``."""
        sources = await asyncio.to_thread(self._source_files.parse, texts)
        environment = sources.environments.get(self._state.active)
        if environment is not None and environment.problems:
            raise SourceError(environment.problems)
        return sources

    async def _load(
        self,
        sources: Sources,
        *,
        meta: dict[str, str] | None = None,
        moves_to: str | None = None,
        starting: bool = False,
        dry_run: bool = False,
        migrate: ChangeContext | None = None,
        patience: Patience = "none",
        beside: str | None = None,
    ) -> ReloadResult:
        serve = await self._to_serve(sources, beside=beside)
        vanished = self._vanished.look(self._files.found, sources.files, dry_run=dry_run)

        async def make(plan: Plan) -> tuple[PlannedLoad, ReloadResult, bool]:
            if moves_to is not None and moves_to != self._state.active:
                # Another daemon activated another one meanwhile.
                self._active_before, self._state.active = self._state.active, moves_to
            try:
                load = await self._planner.plan(
                    plan,
                    sources,
                    vanished,
                    starting=starting,
                    history_sealed=self._marks.history_sealed,
                    migrate=migrate,
                    dry_run=dry_run,
                )
            except SourceError as error:
                if patience == "all" and not isinstance(error, SchemaRefused | NothingLeft):
                    # The others may be mere consequences, and be gone when the file is back.
                    self._vanished.check(error.problems)
                raise
            if not dry_run and (patience == "all" or (patience == "endings" and _ends_any(plan))):
                self._vanished.check(vanished)
            if meta:
                plan.meta.update({**meta, restore.ACTIVE: self._state.active})
            self._marks.plan(plan, load.sources, load.defined)
            plan.on_commit.append(lambda: self._loaded(load))
            serve(plan)
            seals = bool(plan.resealed or plan.overlays)
            if seals:
                # Also if it is known only later that the plan is durable.
                plan.on_commit.append(self._scrubbing.request)
            return load, await self._planner.result(plan, load, dry_run=dry_run), seals

        # Exclusive: the next plan builds on these files.
        load, result, seals = await self._commits.change(FILES, make, dry_run=dry_run, exclusive=True, loads=True)
        warnings = await look_at_files(
            sources,
            shadowed=load.changes.shadowed,
            hidden=load.changes.hidden,
            ended=load.changes.ended,
            serves=self._serves,
        )
        result.warnings.extend(warnings.listed)
        if not dry_run:
            self._note_schemas(load)
            self._reports.loaded(sources, load.changes, warnings)
            if seals:
                await self._scrubbing.scrub()
        return result

    async def _to_serve(self, sources: Sources, *, beside: str | None) -> Callable[[Plan], None]:
        """Return what adds to a plan that files serve all daemons; arguments as for ``ServedFiles.to_serve``."""
        if self._served is None or sources.texts is None:
            return lambda _: None
        return await self._served.to_serve(sources.texts, beside=beside)

    def _serves(self, service: str) -> bool:
        """Return whether a service was made at run time in any environment."""
        return any(self._state.head(ConfigId(name, service)).overlay is not None for name in self._files.defined)

    @asynccontextmanager
    async def _holding_up_little(self) -> AsyncGenerator[None]:
        """Read files and replace configurations, however many, without steps that hold up everything else.

        A change of 10,000 services took steps of 0.2 s and of 40 ms: see ``memory``.
        """
        if self._state.count(self._state.active) < _MANY_SERVICES:
            yield
            return
        with making_what_stays():
            replaced = [*self._files.parts(), *self._state.all_heads().values()]
            try:
                yield
            finally:
                await free_slowly(replaced)
                await give_back()

    def _loaded(self, load: PlannedLoad) -> None:
        """Put the files in force: their plan is durable."""
        sources = load.sources
        self._marks.loaded(sources)
        self._blocking = frozenset()
        self._files.replace(
            load.planner,
            problems=load.changes.problems,
            unopened=load.changes.unopened,
            lacking=load.changes.lacking,
            hidden=load.changes.hidden,
            defined=load.defined,
            schemas=serving_schemas(sources, self._files.schemas),
        )
        if sources.access is not None:
            self._reports.access_known()
        # In order, which makes it fast to sort.
        services = dict.fromkeys(chain.from_iterable(load.defined.values()))
        self._authorizer.apply_rules(sources.access, services)

    def _note_schemas(self, load: PlannedLoad) -> None:
        """Note which schemas on disk are not in force."""
        if load.refused is not None:
            self._degrade(load.refused)
            self.refused_schemas = load.refused_schemas
        waiting = [item for item in load.migrations if not item.done]
        self._blocking |= {item.service for item in waiting if item.problems}
        self._reports.waiting(waiting)

    def _degrade(self, error: SourceError) -> None:
        """Note that the files on disk are not in force."""
        self._files.refuse(error.problems)
        if isinstance(error, FilesVanished):
            self.degraded = str(error.problems[0])
            self._reports.put_off(error)
            return
        self._vanished.settle()
        self.degraded = self._reports.refused(error)
        self._blocking = error.services


def _ends_any(plan: Plan) -> bool:
    """Return whether a plan ends a configuration."""
    return any(record.deleted for record in plan.records)
