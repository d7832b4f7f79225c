"""Where each value of a configuration comes from, and what it overrode."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aliciacfg import documents
from aliciacfg.api.answers import Explained, Overridden, Removed
from aliciacfg.documents import Json, JsonObject
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.boxes import REDACTED, is_sealed
from aliciacfg.sealing.sealed_documents import redact

SCHEMA = "schema"
OVERLAY = "overlay"
DAEMON = "daemon"


@dataclass(frozen=True, slots=True)
class Source:
    """One layer as it is shown.

    Attributes:
        layer: Its name for people.
        patch: A merge patch.
        lines: 1-based lines of what it says, by JSON Pointer of the configuration.
        revisions: The revisions that brought what it says, likewise.
        secret: It is a file of secrets.
    """

    layer: str
    patch: JsonObject
    lines: Mapping[str, int] = field(default_factory=dict[str, int])
    revisions: Mapping[str, int] = field(default_factory=dict[str, int])
    secret: bool = False


@dataclass(frozen=True, slots=True)
class _Said:
    """What one layer says about a place, at the place itself or around it."""

    source: Source
    pointer: str
    value: Json

    @property
    def line(self) -> int | None:
        return self.source.lines.get(self.pointer)

    @property
    def revision(self) -> int | None:
        found = self.source.revisions.get(self.pointer)
        if found is not None:
            return found
        # An object of which only the members have a revision: the newest of them.
        inside = [number for place, number in self.source.revisions.items() if place.startswith(f"{self.pointer}/")]
        return max(inside, default=None)


class Explainer:
    """Explains one configuration."""

    def __init__(
        self,
        document: JsonObject,
        sources: Sequence[Source],
        schema: ServiceSchema,
        *,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """Take what is explained, and what says something.

        Args:
            document: What the layers make together.
            sources: The layers, lowest first.
            schema: Says what is secret.
            secrets: What is one in the document, by pointer, though a schema may have ceased to say so.
        """
        secrets = {**schema.secrets(document), **(secrets or {})}
        self._document = document
        self._shown_document = redact(document, secrets)
        self._highest_first = list(reversed(sources))
        # In a lower layer a secret may have been written as a number.
        self._hidden = {
            place.pointer
            for source in sources
            for place in schema.places(source.patch)
            if place.sensitive or (place.hidden and not self._is_open(place.pointer))
        }
        self._hidden |= secrets.keys()

    def values(self) -> dict[str, Explained]:
        """Every leaf of the document by JSON Pointer; put together they are the document."""
        return {pointer: self._explained(pointer, value) for pointer, value in documents.leaves(self._shown_document)}

    def removed(self) -> dict[str, Removed]:
        """The places that a layer removed with ``null`` from what lower ones say."""
        found: dict[str, Removed] = {}
        for source in self._highest_first:
            for pointer, value in documents.leaves(source.patch):
                if value is not None or pointer in found or documents.has(self._document, pointer):
                    continue
                said = list(self._said(pointer))
                by, lower = said[0], [item for item in said[1:] if item.value is not None]
                # A higher layer may have replaced everything around the place.
                if lower and by.value is None:
                    overridden = [self._overridden(item) for item in lower]
                    found[pointer] = Removed(
                        layer=by.source.layer, line=by.line, overridden=overridden, revision=by.revision
                    )
        return found

    def _is_open(self, pointer: str) -> bool:
        """Whether the document shows a number or a flag here, which no name makes a secret."""
        return isinstance(documents.find(self._document, pointer), bool | int | float)

    def _explained(self, pointer: str, value: Json) -> Explained:
        said = list(self._said(pointer))
        if not said or said[0].value is None:
            # Filled in because no layer says it: who the document is for.
            return Explained(value=value, layer=SCHEMA, line=None, overridden=[self._overridden(item) for item in said])
        by, *lower = said
        return Explained(
            value=value,
            layer=by.source.layer,
            line=by.line,
            overridden=[self._overridden(item) for item in lower],
            revision=by.revision,
        )

    def _said(self, pointer: str) -> Iterator[_Said]:
        """What the layers say about a place, highest first."""
        for source in self._highest_first:
            here: Json = source.patch
            at = ""
            for token in documents.parse_pointer(pointer):
                if not isinstance(here, dict):
                    break
                if token not in here:
                    at = ""
                    break
                here = here[token]
                at += f"/{documents.escape(token)}"
            if at:
                yield _Said(source, at, here)

    def _overridden(self, said: _Said) -> Overridden:
        shown = self._shown(said.pointer, said.value, secret=said.source.secret)
        return Overridden(layer=said.source.layer, line=said.line, value=shown)

    def _shown(self, pointer: str, value: Json, *, secret: bool) -> Json:
        """A value as any reader may see it; of a file of secrets no text, whatever a schema says by now."""
        if isinstance(value, dict):
            return {
                key: self._shown(f"{pointer}/{documents.escape(key)}", inner, secret=secret)
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return [self._shown(f"{pointer}/{index}", item, secret=secret) for index, item in enumerate(value)]
        if value is None:
            return None
        hidden = isinstance(value, str) and (secret or is_sealed(value))
        return REDACTED if hidden or pointer in self._hidden else value
