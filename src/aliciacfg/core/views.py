"""What readers get of a configuration's secrets.

Sealed to the service's own key where it has registered one, else ``***``. A sealed secret is the same text whenever it
is asked for, as long as revision and key stay: so a writer can send it back to keep it, and a reader sees no change
where there is none.
"""

from collections.abc import Mapping

from aliciacfg import documents
from aliciacfg.documents import JsonObject
from aliciacfg.model.records import Record
from aliciacfg.sealing.boxes import Keyring, PublicKey
from aliciacfg.sealing.sealed_documents import open_record, redact, redact_record


class Views:
    """Shows configurations to readers."""

    def __init__(self, keyring: Keyring, recipients: Mapping[str, PublicKey]) -> None:
        """Take the keys.

        Args:
            keyring: Opens what is stored.
            recipients: The key of each service that has registered one.
        """
        self._keyring = keyring
        self._recipients = dict(recipients)

    def recipient(self, service: str) -> PublicKey | None:
        """The key that a service's secrets are sealed to."""
        return self._recipients.get(service)

    def put(self, service: str, key: PublicKey | None) -> None:
        """A service's key is another one from now on, or none."""
        if key is None:
            self._recipients.pop(service, None)
        else:
            self._recipients[service] = key

    def shown(self, record: Record) -> JsonObject:
        """The document of a revision as every reader may see it, ``version`` included."""
        document = redact_record(record)
        boxes = self._boxes(record)
        if not boxes:
            return document
        return documents.replace_strings(document, boxes)

    def opened(self, record: Record) -> JsonObject:
        """The document of a revision with its secrets in the open, ``version`` included."""
        return {**open_record(record, self._keyring).readable, "version": record.version}

    def kept(self, config: JsonObject, record: Record | None) -> JsonObject:
        """A copy of what a writer sends in which each box that it was given says ``***``, as it would have without.

        Only in its place, or in that of another item of the same array: anywhere else it is no secret to be kept.
        """
        boxes = {} if record is None else self._boxes(record)
        if not boxes:
            return config
        places = {box: _place(pointer) for pointer, box in boxes.items()}
        same = [pointer for pointer, value in documents.walk_strings(config) if places.get(value) == _place(pointer)]
        return redact(config, same)

    def _boxes(self, record: Record) -> dict[str, str]:
        """Each secret of a revision that opens, sealed to the service."""
        key = self._recipients.get(record.service)
        if key is None or record.deleted:
            return {}
        return {
            pointer: self._keyring.seal_to_recipient(
                key,
                value,
                service=record.service,
                environment=record.environment,
                pointer=pointer,
                revision=record.revision,
            )
            for pointer, value in open_record(record, self._keyring).secrets.items()
        }


def _place(pointer: str) -> tuple[str, ...]:
    """A pointer whatever the number of an item."""
    return tuple("*" if token.isdecimal() else token for token in documents.parse_pointer(pointer))
