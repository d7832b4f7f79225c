"""Secrets that are sealed to a service's key, as people see them.

A box of 300 characters says no more than ``***``, and either keeps the secret in a write.
"""

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from aliciacfg.model.redaction import REDACTED, SEALED_PREFIX


def without_boxes(value: JsonObject) -> JsonObject:
    """Return a document with ``***`` in the place of each sealed value."""
    boxes = (pointer for pointer, text in documents.walk_strings(value) if text.startswith(SEALED_PREFIX))
    return documents.replace_strings(value, dict.fromkeys(boxes, REDACTED))


def without_boxes_anywhere(value: Json) -> Json:
    """Return any JSON value likewise."""
    return without_boxes({"": value})[""]
