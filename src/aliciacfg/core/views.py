"""Renders configurations for readers: secrets redacted, sealed to the service's key, or in plain text.

Secrets are sealed to the key that the service registered, otherwise they show as ``***``. A sealed secret is the same
text as long as revision and key stay, so that a writer can send it back to keep it, and a reader sees no change where
there is none.
"""

import hashlib
from collections.abc import Callable, Mapping

import msgspec

from aliciacfg import documents
from aliciacfg.api.answers.configurations import ConfigAnswer
from aliciacfg.api.answers.refused_edits import RefusedEdit
from aliciacfg.api.encoding import Answer
from aliciacfg.core.plan import Plan
from aliciacfg.core.state import Entry, State
from aliciacfg.documents import JsonObject
from aliciacfg.documents.json_patch import json_patch
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Record
from aliciacfg.model.redaction import REDACTED
from aliciacfg.sealing.boxes import Keyring, PublicKey, key_ids
from aliciacfg.sealing.sealed_documents import open_record, redact, redact_encoded, redact_record, seal_to_recipient

# A secret takes 0.15 ms and 0.3 kB here.
_MAX_SEALED_RECORDS = 64


class Views:
    """Renders configurations for readers; register ``on_commit`` with ``Commits`` before the parts that render."""

    def __init__(
        self,
        keyring: Keyring,
        state: State,
        recipients: Mapping[str, PublicKey],
        *,
        refused_edits: Callable[[ConfigId], list[RefusedEdit]] = lambda _: [],
    ) -> None:
        """Hold the keys.

        Args:
            keyring: Opens stored secrets.
            state: Has the epoch.
            recipients: The key of each service that has registered one.
            refused_edits: Returns why edits of a configuration's files are not in force, as its readers may know it.
        """
        self._refused_edits = refused_edits
        self._keyring = keyring
        self._state = state
        self._recipients = dict(recipients)
        # The result of _boxes by revision and key.
        self._sealed: dict[tuple[str, str, int, str, str], dict[str, str]] = {}

    def on_commit(self, plan: Plan) -> None:
        """Apply the recipient keys that a plan sets."""
        for item in plan.recipients:
            if item.public_key is None:
                self._recipients.pop(item.service, None)
            else:
                self._recipients[item.service] = PublicKey.parse(item.public_key)

    def forget(self) -> None:
        """Seal everything to recipients again when it is asked for: which secrets open may be different now."""
        self._sealed.clear()

    def with_recipient(self, service: str, key: PublicKey | None) -> "Views":
        """Return views in which a service has another key, or none: for planning what is announced then."""
        recipients = {known: other for known, other in self._recipients.items() if known != service}
        return Views(self._keyring, self._state, recipients if key is None else {**recipients, service: key})

    def public(self, record: Record) -> JsonObject:
        """Return the document of a revision as every reader may see it, ``version`` included."""
        return self._sealed_to_service(record, redact_record(record))

    def encoded_public(self, record: Record) -> bytes:
        """Return the same as ``public``, encoded, with the members in the order in which they are stored."""
        recipient = record.service in self._recipients
        return documents.encode(self.public(record)) if recipient else redact_encoded(record)

    def encoded_public_of(self, record: Record, redacted_document: JsonObject) -> msgspec.Raw:
        """Return the same as ``public`` as JSON, from the redacted document of the revision without ``version``."""
        document = self._sealed_to_service(record, {**redacted_document, "version": record.version})
        # Members sorted, as in every other view: a person who compares two messages sees only what differs.
        return msgspec.Raw(documents.canonical(document))

    def plain(self, record: Record) -> JsonObject:
        """Return the document of a revision with its secrets in plain text, ``version`` included."""
        return {**open_record(record, self._keyring).readable, "version": record.version}

    def encoded(self, record: Record) -> bytes:
        """Encode the answer to ``get`` for one revision, without ``status`` and ``request_id``."""
        return documents.encode(self._config_answer(record, self.public(record)))

    def plaintext_answer(self, record: Record) -> Answer:
        """Return the answer to ``get`` with secrets in plain text; its ETag differs from that of ``encoded``."""
        return Answer(documents.encode(self._config_answer(record, self.plain(record))), self.etags(record)[1])

    def etag(self, record: Record) -> str:
        """Return an opaque tag that covers environment, epoch, sequence and how readers see the secrets."""
        key = self._recipients.get(record.service)
        reader = "redacted" if key is None else key.key_id
        # A key that is added or lost while no daemon runs changes which secrets open.
        closed = sorted(name for name in key_ids(record.config) if not self._keyring.has(name))
        text = [
            record.environment, record.service, self._state.epoch, record.home_sequence, record.revision,
            record.checksum, reader, closed,
        ]  # fmt: skip
        return hashlib.sha256(documents.encode(text)).hexdigest()[:24]

    def etags(self, record: Record) -> tuple[str, str]:
        """Return the ETags of the public view of a revision and of the one in plain text."""
        etag = self.etag(record)
        # "o" for open: the plain text must not share the tag of the public view.
        return etag, f"{etag}o"

    def kept(self, config: JsonObject, record: Record | None) -> JsonObject:
        """Return a copy of a written document in which each box that the writer was given is ``***`` again.

        A box counts only in its place, or in that of another item of the same array: elsewhere it keeps no secret.
        """
        boxes = {} if record is None else self._boxes(record)
        if not boxes:
            return config
        places = {box: _place(pointer) for pointer, box in boxes.items()}
        same = [pointer for pointer, value in documents.walk_strings(config) if places.get(value) == _place(pointer)]
        return redact(config, same)

    def _sealed_to_service(self, record: Record, document: JsonObject) -> JsonObject:
        boxes = self._boxes(record)
        return documents.replace_strings(document, boxes) if boxes else document

    def _config_answer(self, record: Record, config: JsonObject) -> ConfigAnswer:
        return ConfigAnswer(
            service=record.service,
            config=config,
            version=record.version,
            last_updated=record.timestamp,
            environment=record.environment,
            revision=record.revision,
            sequence=record.home_sequence,
            epoch=self._state.epoch,
            checksum=record.checksum,
            refused_edits=self._refused_edits(ConfigId(record.environment, record.service)),
        )

    def _boxes(self, record: Record) -> dict[str, str]:
        """Return the secrets of a revision sealed to its service's key; empty if it has none.

        The result is kept, because a write needs that of the revision before it, and every reader the newest one.
        """
        key = self._recipients.get(record.service)
        if key is None or record.deleted:
            return {}
        name = (record.environment, record.service, record.revision, record.checksum, key.key_id)
        boxes = self._sealed.pop(name, None)
        if boxes is None:
            boxes = seal_to_recipient(record, key, self._keyring)
        # The least recently used one is the first.
        self._sealed[name] = boxes
        if len(self._sealed) > _MAX_SEALED_RECORDS:
            del self._sealed[next(iter(self._sealed))]
        return boxes


def difference(before: Entry, after: Entry) -> list[JsonObject]:
    """Return RFC 6902 operations between two redacted configurations; a changed secret is replaced by ``***``."""
    secrets = {} if after.effective is None else after.effective.secrets
    return difference_to(before, redacted_content(after), secrets)


def difference_to(before: Entry, new: JsonObject, secrets: Mapping[str, str]) -> list[JsonObject]:
    """Return what ``difference`` returns, to a redacted document with these secrets."""
    operations = json_patch(redacted_content(before), new)
    known = {} if before.effective is None else before.effective.secrets
    other = [pointer for pointer, value in secrets.items() if known.get(pointer, value) != value]
    return [*operations, *({"op": "replace", "path": pointer, "value": REDACTED} for pointer in other)]


def redacted_content(entry: Entry) -> JsonObject:
    """Return the content of an entry without ``version``, its secrets redacted; empty if it does not exist."""
    if entry.effective is not None:
        return redact(entry.effective.document, entry.effective.secrets)
    if entry.live is None:
        return {}
    document = redact_record(entry.live)
    document.pop("version", None)
    return document


def _place(pointer: str) -> tuple[str, ...]:
    """Return the tokens of a pointer with every array index as ``*``."""
    return tuple("*" if token.isdecimal() else token for token in documents.parse_pointer(pointer))
