"""The origin of each value of a configuration, and the values that it overrides."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aliciacfg import documents
from aliciacfg.api.answers.explain import Explained, Overridden, Removed
from aliciacfg.documents import Json, JsonObject
from aliciacfg.model.redaction import REDACTED
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.boxes import is_sealed
from aliciacfg.sealing.sealed_documents import redact

SCHEMA = "schema"
OVERLAY = "overlay"
DAEMON = "daemon"


@dataclass(frozen=True, slots=True)
class ExplainedLayer:
    """A layer of a configuration.

    Attributes:
        layer: The name that answers show.
        patch: The content, a merge patch.
        line: Returns the 1-based line of a value, by its JSON Pointer in the configuration; None without a file. Asked
            for the values that are shown only: a file has a line for every value of every service.
        revisions: The revisions that set its values, by JSON Pointer of the configuration.
        secret: Whether it comes from a file of secrets.
    """

    layer: str
    patch: JsonObject
    line: Callable[[str], int | None] = lambda _: None
    revisions: Mapping[str, int] = field(default_factory=dict[str, int])
    secret: bool = False


# Not frozen: an explanation makes about a hundred of them, and each would take three times as long.
@dataclass(slots=True)
class _LayerValue:
    """The value of a layer at a place, or at the nearest place around it."""

    source: ExplainedLayer
    pointer: str
    value: Json

    @property
    def line(self) -> int | None:
        return self.source.line(self.pointer)

    @property
    def revision(self) -> int | None:
        if not self.source.revisions:
            return None
        found = self.source.revisions.get(self.pointer)
        if found is not None:
            return found
        # An object itself has no revision; use the newest one of its members.
        inside = [number for place, number in self.source.revisions.items() if place.startswith(f"{self.pointer}/")]
        return max(inside, default=None)


class Explainer:
    """Explains one configuration."""

    def __init__(
        self,
        document: JsonObject,
        sources: Sequence[ExplainedLayer],
        schema: ServiceSchema,
        *,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """Find the secrets of the document and of all layers.

        Args:
            document: The merged layers.
            sources: The layers, lowest first.
            schema: Marks the secrets.
            secrets: Further secrets of the document, by JSON Pointer, which the schema no longer marks.
        """
        secrets = {**schema.secrets(document), **(secrets or {})}
        self._document = document
        self._schema = schema
        self._redacted_document = redact(document, secrets)
        self._highest_first = list(reversed(sources))
        # A lower layer may have a number at the place of a secret.
        self._hidden = {
            place.pointer
            for source in sources
            for place in schema.places(source.patch)
            if place.sensitive or (place.hidden and not self._is_open(place.pointer))
        }
        self._hidden |= secrets.keys()

    def values(self) -> dict[str, Explained]:
        """Return every leaf of the document by JSON Pointer; together they make up the document."""
        return {
            pointer: self._explained(pointer, value) for pointer, value in documents.leaves(self._redacted_document)
        }

    def removed(self) -> dict[str, Removed]:
        """Return the values of lower layers that a layer removed with ``null``, by JSON Pointer."""
        found: dict[str, Removed] = {}
        for source in self._highest_first:
            for pointer, value in documents.leaves(source.patch):
                if value is not None or pointer in found or documents.has(self._document, pointer):
                    continue
                values = list(self._layer_values(pointer))
                by, lower = values[0], [item for item in values[1:] if item.value is not None]
                # Without this check, a value would count as removed when a higher layer replaced the whole object.
                if lower and by.value is None:
                    overridden = [self._overridden(item) for item in lower]
                    found[pointer] = Removed(
                        layer=by.source.layer, line=by.line, overridden=overridden, revision=by.revision
                    )
        return found

    def _is_open(self, pointer: str) -> bool:
        """Return whether the document has a number or a boolean here, which is never secret by its name alone."""
        return isinstance(documents.find(self._document, pointer), bool | int | float)

    def _explained(self, pointer: str, value: Json) -> Explained:
        values = list(self._layer_values(pointer))
        if not values or values[0].value is None:
            # The daemon filled in the value: service_name or environment.
            return Explained(
                value=value, layer=SCHEMA, line=None, overridden=[self._overridden(item) for item in values]
            )
        by, *lower = values
        return Explained(
            value=value,
            layer=by.source.layer,
            line=by.line,
            overridden=[self._overridden(item) for item in lower],
            revision=by.revision,
        )

    def _layer_values(self, pointer: str) -> Iterator[_LayerValue]:
        """Yield the values of the layers that determine a place, highest layer first."""
        tokens = documents.parse_pointer(pointer)
        for source in self._highest_first:
            here: Json = source.patch
            depth = 0
            for token in tokens:
                if not isinstance(here, dict):
                    break
                if token not in here:
                    depth = 0
                    break
                here = here[token]
                depth += 1
            if depth:
                # With fewer tokens the layer has a value around the place.
                at = (
                    pointer
                    if depth == len(tokens)
                    else "".join(f"/{documents.escape(token)}" for token in tokens[:depth])
                )
                yield _LayerValue(source, at, here)

    def _overridden(self, item: _LayerValue) -> Overridden:
        value = self._redacted(item.pointer, item.value, secret=item.source.secret)
        return Overridden(layer=item.source.layer, line=item.line, value=value)

    def _redacted(self, pointer: str, value: Json, *, secret: bool) -> Json:
        """Redact the secrets of a value.

        In a file of secrets, every string is one, also if the schema says otherwise; so it is in what stands where a
        string would be a secret.
        """
        secret = secret or (isinstance(value, dict | list) and self._schema.expects_secret(pointer))
        if isinstance(value, dict):
            return {
                key: self._redacted(f"{pointer}/{documents.escape(key)}", inner, secret=secret)
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return [self._redacted(f"{pointer}/{index}", item, secret=secret) for index, item in enumerate(value)]
        if value is None:
            return None
        hidden = isinstance(value, str) and (secret or is_sealed(value))
        return REDACTED if hidden or pointer in self._hidden else value
