"""The operations for administrators: recipients, audit, tokens, keys."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from aliciacfg.access import tokens
from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers.administration import (
    AuditAnswer,
    BackupAnswer,
    KeyItem,
    KeysAnswer,
    PasswordsAnswer,
    RecipientAnswer,
    TokenAnswer,
    TokenItem,
    TokensAnswer,
)
from aliciacfg.api.encoding import Answer
from aliciacfg.api.requests import (
    AuditRequest,
    KeyAddRequest,
    KeyRemoveRequest,
    RecipientRequest,
    Request,
    TokenCreateRequest,
    TokenRevokeRequest,
)
from aliciacfg.core.adoption import report_adoption
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.key_rotation import KeyRotation
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.plan import ChangeContext
from aliciacfg.core.state import State
from aliciacfg.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    KeyFileError,
    Problem,
    Unavailable,
    ValidationFailed,
)
from aliciacfg.model import names
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Audited, AuditEntry, Token, Write
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.operations.pages import Page
from aliciacfg.sealing.boxes import Keyring, PrivateKey, PublicKey, UnusableKey
from aliciacfg.sealing.key_file import HeldKey, KeyFile, KeyRefused
from aliciacfg.sources.broker_accounts import passwords_of
from aliciacfg.storage.store import Store
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)

# Of the audit log, in one request for entries of a certain kind.
_MAX_LOOKED_AT = 5000
# Of the verification of all rows.
_HISTORY_ALERT = "undecryptable:history"


class AdminOperations:
    """The operations for administrators; the caller is authorized before they are called."""

    def __init__(
        self,
        *,
        configurations: Configurations,
        state: State,
        files: LoadedFiles,
        queue: WriteQueue,
        store: Store,
        authorizer: Authorizer,
        audit_log: AuditLog,
        alerts: Alerts,
        keys: KeyFile,
        key_rotation: KeyRotation,
        verify: Callable[[], Awaitable[None]],
        make_snapshot_directory: Callable[[], Path],
        clock: Callable[[], float],
    ) -> None:
        self._configurations = configurations
        self._state = state
        self._files = files
        self._queue = queue
        self._store = store
        self._authorizer = authorizer
        self._audit_log = audit_log
        self._alerts = alerts
        self._keys = keys
        self._key_rotation = key_rotation
        self._verify = verify
        self._make_snapshot_directory = make_snapshot_directory
        self._clock = clock

    async def recipient(self, caller: Caller, service: str, request: RecipientRequest) -> Answer:
        """Set the key that a service's secrets are sealed to."""
        names.check_service(service)
        try:
            key = None if request.public_key is None else PublicKey.parse(request.public_key)
        except UnusableKey as error:
            raise InvalidRequest(f"public_key: {error}.") from error
        if key is not None and key.key_id in {known.key_id for known in self._keys.keys}:
            # Otherwise a caller could send secrets sealed for this service back to the daemon, which would open them.
            raise InvalidRequest("public_key: found a key of the daemon; expected a key of the service.")
        await self._key_rotation.set_recipient(service, key, ChangeContext.of_request(caller, "recipient"))
        message = (
            f"secrets of {service} are shown as *** from now on"
            if key is None
            else f"secrets of {service} are sealed to {key.key_id} from now on"
        )
        return Answer.of(RecipientAnswer(service=service, key_id=None if key is None else key.key_id, message=message))

    async def audit(self, _caller: Caller, request: AuditRequest) -> Answer:
        """Return audit entries, newest first."""
        page, before, looked_at = Page[Audited](request.limit), request.before, 0
        while not page.more and looked_at < _MAX_LOOKED_AT:
            found = await self._store.audit(before=before, limit=request.limit + 1, service=request.service)
            page.extend(entry for entry in found if _is_wanted(entry, request))
            looked_at += len(found)
            if len(found) <= request.limit:
                break
            before = found[-1].sequence
        else:
            # There may be more behind the entries that were looked at.
            after = page.items[-1].sequence if page.more else before
            return Answer.of(AuditAnswer(entries=page.items, next=after))
        return Answer.of(AuditAnswer(entries=page.items, next=page.items[-1].sequence if page.more else None))

    async def token_create(self, caller: Caller, request: TokenCreateRequest) -> Answer:
        """Create a token; only this answer contains its text, which is not stored."""
        text = tokens.generate()
        now = self._clock()
        expires = None if request.expires_in_seconds is None else now + request.expires_in_seconds
        token = tokens.token(text, name=request.name, role=request.role, now=now, expires=expires)
        await self._store_token(token, caller, "token_create", f"{token.token_id} for {token.name}, role {token.role}")
        return Answer.of(
            TokenAnswer(token=text, token_id=token.token_id, name=token.name, role=token.role, expires=token.expires)
        )

    async def tokens(self, _caller: Caller, request: Request) -> Answer:
        """Return all tokens without their texts, oldest first, those that are revoked or expired as well."""
        return await self.token_list(_caller, request)

    async def create_token(self, caller: Caller, request: TokenCreateRequest) -> Answer:
        """Create a token; only this answer has its text.

        Only a caller with an administrator's token may, over HTTPS or on the machine of the daemon: the first token is
        made with `aliciacfg token create`.

        Raises:
            Forbidden: The caller has no such token, or others may read the answer.
        """
        self._check_tokens(caller)
        if not caller.private:
            raise Forbidden(
                "A new token is sent over HTTPS, or to the daemon's own machine without a proxy; use one of these, or "
                "`aliciacfg token create` there."
            )
        return await self.token_create(caller, request)

    async def revoke_token(self, caller: Caller, token_id: str, _request: Request) -> Answer:
        """Revoke a token; a revoked one stays as it is."""
        self._check_tokens(caller)
        return await self.token_revoke(caller, TokenRevokeRequest(token_id=token_id))

    def _check_tokens(self, caller: Caller) -> None:
        """Return if a caller may change tokens over HTTP.

        Where nothing is restricted yet, the first caller could make itself the only administrator.

        Raises:
            Forbidden: It has no administrator's token.
        """
        if not self._authorizer.access.administers(caller):
            raise Forbidden(
                "Only the token of an administrator changes tokens over HTTP; make the first one with `aliciacfg token "
                "create NAME --role admin`."
            )

    async def token_list(self, _caller: Caller, _request: Request) -> Answer:
        """Return all tokens without their texts, oldest first."""
        listed = sorted(self._authorizer.tokens.values(), key=lambda token: token.created)
        return Answer.of(TokensAnswer(tokens=[_token_item(token) for token in listed]))

    async def token_revoke(self, caller: Caller, request: TokenRevokeRequest) -> Answer:
        """Revoke a token; a revoked token stays as it is."""
        token = self._authorizer.find_token(request.token_id)
        if token.revoked is None:
            token = msgspec.structs.replace(token, revoked=self._clock())
            await self._store_token(token, caller, "token_revoke", f"{token.token_id} of {token.name}")
        return Answer.of(TokensAnswer(tokens=[_token_item(token)]))

    async def store_admin_token(self, text: str) -> None:
        """Store the token of the first administrator, unless it is stored already and its row is unchanged.

        Raises:
            InvalidRequest: The text is not a valid token.
            Unavailable: The store cannot write.
        """
        token = tokens.token(text, name="admin", role="admin", now=self._clock())
        known = self._authorizer.tokens.get(token.token_id)
        if known is None or not known.confirmed:
            caller = Caller("admin", "local", proven=True, role="admin")
            await self._store_token(token, caller, "token_create", f"{token.token_id} for admin, role admin")

    async def keys_show(self, _caller: Caller, _request: Request) -> Answer:
        """Return the public halves of all sealing keys."""
        return await self._keys_answer("the current key seals; all keys open")

    async def keys_rotate(self, caller: Caller, _request: Request) -> Answer:
        """Create a new key and seal all stored secrets again with it; the old keys still open values."""

        def rotate() -> Keyring:
            self._keys.rotate(now=self._clock())
            return self._keys.make_keyring()

        await self._change_keys(caller, "keys_rotate", rotate)
        current = self._key_rotation.published["key_id"]
        self._audit(caller, "keys_rotate", current)
        return await self._keys_answer(f"{current} seals from now on; all stored secrets were sealed with it")

    async def keys_add(self, caller: Caller, request: KeyAddRequest) -> Answer:
        """Add a key that opens values sealed with it elsewhere; it does not seal."""
        try:
            key = PrivateKey.parse(request.private_key)
        except UnusableKey as error:
            raise InvalidRequest(f"private_key: {error}.") from error

        def add() -> Keyring:
            self._keys.add([HeldKey(key, self._clock())])
            return self._keys.make_keyring()

        used = await self._key_rotation.used()
        await self._change_keys(caller, "keys_add", add)
        self._audit(caller, "keys_add", key.public.key_id)
        if key.public.key_id in used or used <= {item.key_id for item in self._keys.keys}:
            # For what does not open even now there are other alerts.
            await self._settle_adoptions()
        if _HISTORY_ALERT in self._alerts.active:
            # The next verification may be ten minutes away.
            await self._verify()
        return await self._keys_answer(f"{key.public.key_id} opens from now on")

    async def keys_remove(self, caller: Caller, request: KeyRemoveRequest) -> Answer:
        """Remove a key with which no value is sealed any more."""
        used = await self._key_rotation.used()
        try:
            await asyncio.to_thread(self._keys.remove, request.key_id, still_sealed=request.key_id in used)
        except KeyRefused as error:
            raise Conflict(f"{error}.", revision=0, checksum="") from error
        except KeyFileError as error:
            raise Unavailable(f"{error}.") from error
        self._key_rotation.apply(self._keys.make_keyring())
        self._audit(caller, "keys_remove", request.key_id)
        return await self._keys_answer(f"{request.key_id} is removed")

    async def keys_acknowledge(self, caller: Caller, _request: Request) -> Answer:
        """End the alert about a database that a new key file adopted."""
        if self._keys.pending_adoption is None:
            return await self._keys_answer("nothing to acknowledge: no key file was lost")
        await self._settle_adoptions()
        self._audit(caller, "keys_acknowledge", "the loss of an earlier keys.json")
        return await self._keys_answer("the loss of the earlier keys.json is acknowledged")

    async def _settle_adoptions(self) -> None:
        try:
            await asyncio.to_thread(self._keys.settle_adoptions)
        except KeyFileError as error:
            raise Unavailable(f"{error}.") from error
        report_adoption(self._keys, self._alerts)

    async def backup(self, caller: Caller, _request: Request) -> Answer:
        """Copy the database into a new directory in the data directory; the caller removes it."""
        try:
            directory = await self._copy_database()
        except Unavailable as error:
            # The command copies it itself then, as who may read the data directory can.
            self._audit_log.record_refusal(caller, "backup", None, error)
            raise
        self._audit(caller, "backup", "a copy of the database")
        return Answer.of(BackupAnswer(snapshot=directory.name))

    async def _copy_database(self) -> Path:
        """Copy the database, and return the new directory of the copy.

        Raises:
            Unavailable: It cannot be read, or the copy cannot be written; nothing is left of it.
        """
        directory = self._make_snapshot_directory()
        try:
            await self._store.backup(directory)
        except BaseException:
            # The thread that copies may not have ended yet; it finds that the file is gone.
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return directory

    async def broker_passwords(self, caller: Caller, request: Request) -> Answer:
        """Return the broker passwords of services, for the broker's password file.

        Only services that the files define are included, because a registration does not prove who sent it.

        Raises:
            InvalidRequest: A service does not connect under its own name, so the broker cannot prove its name.
            ValidationFailed: A secret does not open.
        """
        environment = self._configurations.environment(request.environment)
        live = {
            service: record
            for service, record in self._state.live(environment)
            if self._files.defines(ConfigId(environment, service))
        }
        opened = {service: self._configurations.open_record(record) for service, record in live.items()}
        problems = [
            Problem(f"/{service}{problem.pointer}", problem.message)
            for service, found in opened.items()
            for problem in found.problems
        ]
        if problems:
            raise ValidationFailed("Some secrets do not open, so the passwords are unknown", problems)
        found = passwords_of({service: found.document for service, found in opened.items()})
        for service in found:
            self._audit_log.record_delivery(caller, service, environment, live[service].revision)
        return Answer.of(PasswordsAnswer(environment=environment, passwords=found))

    async def _change_keys(self, caller: Caller, operation: str, change: Callable[[], Keyring]) -> None:
        try:
            await self._key_rotation.rekey(ChangeContext.of_request(caller, operation), change)
        except KeyFileError as error:
            raise Unavailable(f"{error}.") from error

    async def _keys_answer(self, message: str) -> Answer:
        used = await self._key_rotation.used()
        items = [
            KeyItem(
                key_id=item.key_id,
                public_key=str(item.public_key),
                current=item.seals,
                created=item.created,
                in_use=item.key_id in used,
            )
            for item in self._keys.keys
        ]
        return Answer.of(KeysAnswer(keys=items, message=message))

    async def _store_token(self, token: Token, caller: Caller, operation: str, detail: str) -> None:
        # Not as a change of configurations: to revoke a token must not wait for a reload or a long batch.
        write = Write(tokens=(token,), audit=(self._entry(caller, operation, detail),))
        await self._queue.submit(write, lambda: self._authorizer.apply_tokens([token]))
        try:
            revoked = [] if token.revoked is None else [token.token_id]
            await asyncio.to_thread(self._keys.note_tokens, revoked)
        except KeyFileError as error:
            _log.warning("key_file_not_marked", reason=str(error), remedy="none needed; the next start tries it again")

    def _audit(self, caller: Caller, operation: str, detail: str) -> None:
        self._audit_log.write([self._entry(caller, operation, detail)])

    def _entry(self, caller: Caller, operation: str, detail: str) -> AuditEntry:
        return ChangeContext.of_request(caller, operation).audit_entry(self._clock(), detail=detail)


def _is_wanted(entry: Audited, request: AuditRequest) -> bool:
    return request.who in (None, entry.who) and request.outcome in (None, entry.outcome)


def _token_item(token: Token) -> TokenItem:
    return TokenItem(
        token_id=token.token_id,
        name=token.name,
        role=token.role,
        created=token.created,
        expires=token.expires,
        revoked=token.revoked,
        confirmed=token.confirmed,
    )
