"""The read side: finds environments, configurations and revisions, and says why one is not there."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from aliciacfg.core.following import Following
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.plan import Plan
from aliciacfg.core.state import Entry, State
from aliciacfg.errors import NotFound, TooLarge, Unavailable
from aliciacfg.model import names
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Record, RecordHead
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.sealed_documents import OpenedDocument, open_record
from aliciacfg.storage.store import Store

T = TypeVar("T")


class Configurations:
    """All configurations as readers find them; changes nothing."""

    def __init__(self, *, state: State, files: LoadedFiles, store: Store, keyring: Keyring, max_services: int) -> None:
        """Hold the parts.

        Args:
            state: Has the committed configurations.
            files: The files in force.
            store: Has old revisions.
            keyring: Opens their secrets.
            max_services: The largest number of services that one environment may have.
        """
        self._state = state
        self._files = files
        self._store = store
        self._keyring = keyring
        self._max_services = max_services
        self._following: Following | None = None

    def follow(self, following: Following) -> None:
        """Share the database with other daemons, over a network."""
        self._following = following

    def config_id(self, service: str, environment: str | None) -> ConfigId:
        """Return the identity that a request means; without an environment, in the active one.

        Raises:
            InvalidRequest: The service or the environment cannot have this name.
            NotFound: There is no such environment.
        """
        names.check_service(service)
        return ConfigId(self.environment(environment), service)

    def environment(self, name: str | None) -> str:
        """Return the environment that a request means: the active one unless it names another that exists.

        Raises:
            InvalidRequest: No environment can have this name.
            NotFound: There is no such environment.
        """
        if name is None or name == self._state.active:
            return self._state.active
        names.check_environment(name)
        sources = self._files.sources
        if sources is not None and name not in sources.environments:
            raise NotFound(f"There is no environment {name!r}; there are: {', '.join(sources.environments)}.")
        return name

    def live(self, config_id: ConfigId) -> Record:
        """Return the newest revision of a configuration that exists.

        Raises:
            NotFound: It does not exist; says what is wrong with its files, if they name it.
            Unavailable: It may exist, in a part of the store that cannot be read.
        """
        return self.live_entry(config_id)[1]

    def live_entry(self, config_id: ConfigId) -> tuple[Entry, Record]:
        """Return the committed entry and the newest revision of a configuration that exists.

        Raises:
            NotFound: As for ``live``.
            Unavailable: As for ``live``.
        """
        entry = self._state.committed(config_id)
        record = entry.live
        if record is not None:
            return entry, record
        self._check_readable(config_id, entry)
        problem = self._files.problem_of(config_id)
        place = self._files.refused_place
        why = ""
        if problem:
            why = f" What the files make of it is invalid: {problem.message}"
        elif place is not None:
            # Without the problem, which may be about other services.
            why = f" The files on disk were refused for a problem in {place}; `aliciacfg environments` shows it."
        raise NotFound(f"There is no configuration of {config_id.service} in {config_id.environment}.{why}")

    def not_served(self) -> list[str]:
        """Return the services that the files of the active environment name, and that have no configuration."""
        active = self._state.active
        defined = self._files.defined.get(active, ())
        return [name for name in defined if self._state.committed(ConfigId(active, name)).live is None]

    async def revision(self, config_id: ConfigId, number: int) -> Record:
        """Return one revision.

        Raises:
            NotFound: There is no revision of that number, or it was a deletion.
            Unavailable: The store cannot be read, or holds something else than was written.
        """
        environment, service = config_id
        record = await self._read(self._store.record(environment, service, number))
        if record is None:
            first = await self._read(self._store.first_kept(environment, service))
            if first is not None and 0 < number < first:
                raise NotFound(
                    f"Revision {number} of {service} in {environment} was removed, as ALICIACFG_HISTORY_KEEP and "
                    f"ALICIACFG_HISTORY_DAYS say; the oldest one that is kept is {first}."
                )
            raise NotFound(f"There is no revision {number} of {service} in {environment}.")
        if record.deleted:
            raise NotFound(
                f"With revision {number} {service} was deleted in {environment}; its content is in the one before."
            )
        return record

    def open_record(self, record: Record) -> OpenedDocument:
        """Open the document of a revision, ``version`` left out."""
        return open_record(record, self._keyring)

    async def history(self, config_id: ConfigId, *, before: int | None, limit: int) -> list[RecordHead]:
        """Return revisions, newest first.

        Args:
            config_id: The configuration.
            before: Only revisions below this one; None for all.
            limit: The largest number of revisions.

        Raises:
            NotFound: There never was one.
            Unavailable: The store cannot be read.
        """
        environment, service = config_id
        entry = self._state.committed(config_id)
        if entry.record is None:
            self._check_readable(config_id, entry)
            raise NotFound(f"There never was a configuration of {service} in {environment}.")
        return await self._read(self._store.history(environment, service, before=before, limit=limit))

    async def _read(self, read: Coroutine[Any, Any, T]) -> T:
        """Return what a read of the store returns.

        Raises:
            Unavailable: The store cannot be read, or does not answer.
        """
        return await (read if self._following is None else self._following.while_it_answers(read))

    def _check_readable(self, config_id: ConfigId, entry: Entry) -> None:
        """Raise Unavailable if a configuration without a known revision may exist all the same."""
        if self._state.incomplete and entry.record is None:
            raise Unavailable(
                f"The database is damaged, so that it is not known whether there is a configuration of "
                f"{config_id.service} in {config_id.environment}. Restore the database from a backup."
            )

    def check_room(self, config_id: ConfigId, plan: Plan) -> None:
        """Refuse a new service beyond the limit.

        Raises:
            TooLarge: The environment has as many services as are allowed.
        """
        environment = config_id.environment
        if plan.head(config_id).live is not None or self._files.defines(config_id):
            return
        plan.room_in.add(environment)
        there = self._state.count_heads(environment)
        planned = sum(1 for other, entry in plan.entries.items() if entry.live and not self._state.head(other).live)
        if there + planned >= self._max_services:
            raise TooLarge(
                f"There are {self._max_services} services in {environment} already (ALICIACFG_MAX_SERVICES); "
                "delete one first."
            )
