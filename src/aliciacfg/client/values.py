"""From the daemon's message to what the program sees: secrets opened, settings converted to their type."""

import time
from typing import Generic

import msgspec

from aliciacfg import documents
from aliciacfg.client.current import Current, SettingsT, Source, Trust
from aliciacfg.client.errors import Rejected
from aliciacfg.client.keys import KeyFile
from aliciacfg.client.messages import Update
from aliciacfg.documents import Json, JsonObject
from aliciacfg.model.redaction import REDACTED, without_secrets
from aliciacfg.sealing.boxes import CannotOpen, is_sealed

NO_RECIPIENT = (
    "the daemon has no key of this service: make one with `aliciacfg recipient new {service}`, and name its file, "
    "ALICIACFG_KEY_FILE={service}.key"
)


class Reader(Generic[SettingsT]):
    """Makes records of one service's messages."""

    def __init__(
        self, settings_type: type[SettingsT], keys: KeyFile, trust: Trust, *, require_secrets: bool = False
    ) -> None:
        self._type = settings_type
        self._keys = keys
        self._trust = trust
        self._require_secrets = require_secrets

    def read(self, update: Update, *, source: Source, received_at: float | None = None) -> Current[SettingsT]:
        """Return the record of a message.

        Args:
            update: The message.
            source: Where it comes from.
            received_at: When it was received; now if None.

        Raises:
            Rejected: ``settings`` does not fit the type, or secrets that are required are missing.
        """
        config, secrets, redacted = self._opened(update)
        problem = self._missing_secrets(update.service, redacted) if self._require_secrets else None
        if problem is not None:
            raise Rejected(problem, environment=update.environment, revision=update.revision)
        return Current(
            settings=self._settings(update, config, secrets, redacted),
            config=config,
            environment=update.environment,
            revision=update.revision,
            sequence=update.sequence,
            epoch=update.epoch,
            version=update.version,
            checksum=update.checksum,
            source=source,
            redacted=redacted,
            received_at=time.time() if received_at is None else received_at,
            trust=self._trust,
        )

    def unreadable(self, update: Update) -> dict[str, str]:
        """Return why secrets of a message cannot be opened now, by JSON Pointer."""
        return self._opened(update)[2]

    def _settings(self, update: Update, config: JsonObject, secrets: list[str], redacted: dict[str, str]) -> SettingsT:
        """Return ``settings`` as their type.

        Raises:
            Rejected: They do not fit.
        """
        try:
            return msgspec.convert(config.get("settings", {}), self._type)
        except Exception as error:  # noqa: BLE001 - a type may raise anything while it is made
            text = without_secrets(str(error).replace("`$", "`settings"), secrets)
            name = getattr(self._type, "__name__", str(self._type))
            missing = self._missing_secrets(
                update.service, {pointer: why for pointer, why in redacted.items() if pointer.startswith("/settings/")}
            )
            problem = f"settings do not fit {name}: {text}" + ("" if missing is None else f"; {missing}")
        # Not chained: the error above may quote a secret.
        raise Rejected(problem, environment=update.environment, revision=update.revision)

    def _opened(self, update: Update) -> tuple[JsonObject, list[str], dict[str, str]]:
        """Return the document with its secrets opened, the secrets, and why others do not open, by JSON Pointer."""
        replaced: dict[str, str] = {}
        redacted: dict[str, str] = {}
        secrets: list[str] = []
        for pointer, text in documents.walk_strings(update.config):
            if text == REDACTED:
                redacted[pointer] = NO_RECIPIENT.format(service=update.service)
            elif is_sealed(text):
                try:
                    value = self._keys.open(
                        text, service=update.service, environment=update.environment, pointer=pointer
                    )
                except CannotOpen as error:
                    redacted[pointer] = str(error)
                    value = REDACTED
                else:
                    secrets.append(value)
                replaced[pointer] = value
        return documents.replace_strings(update.config, replaced), secrets, redacted

    @staticmethod
    def _missing_secrets(service: str, redacted: dict[str, str]) -> str | None:
        """Return which secrets are missing and what to do; None if there are all."""
        if not redacted:
            return None
        pointer, reason = next(iter(redacted.items()))
        others = f" and {len(redacted) - 1} more" if len(redacted) > 1 else ""
        return f"secrets of {service} are not readable here: {pointer}{others}: {reason}"


def opened_secrets(update: Update, config: JsonObject) -> list[str]:
    """Return the secrets of a message that are opened in a document."""
    sealed = [pointer for pointer, text in documents.walk_strings(update.config) if is_sealed(text)]
    return [value for pointer in sealed if isinstance(value := documents.find(config, pointer), str)]


def differences(old: Json, new: Json) -> tuple[str, ...]:
    """Return the JSON Pointers of what differs between two documents, ``version`` left out."""
    return tuple(change.pointer for change in documents.changes(old, new) if change.pointer != "/version")
