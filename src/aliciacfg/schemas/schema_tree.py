"""The tree of a service's schemas: which subschemas describe a place of a document, and what their annotations say.

A node stands for the subschemas of a place. Nodes are made when a document first reaches them and are kept as long as
the schema; places with the same subschemas share one, so that there are at most as many as the schema has combinations
of subschemas, for all documents. Following ``$ref`` and reading annotations anew for each place of each
document took half of the processor time of a write.
"""

import re
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

from msgspec import UnsetType

from aliciacfg.documents import Json, JsonObject, escape, find, parse_pointer
from aliciacfg.errors import InvalidRequest
from aliciacfg.schemas.entity_marks import HOME_ASSISTANT, EntityMark, parse_mark

SENSITIVE = "x-sensitive"
RESTART_REQUIRED = "x-restart-required"
ENVIRONMENT_VARIABLE = "x-env"

_Mark = tuple[JsonObject, JsonObject]
"""A subschema that describes a place, after the schema in which its ``$ref`` is resolved."""

_Nodes = MutableMapping[tuple[int, ...], "Node"]
"""Every node of a tree by its subschemas. It must not keep them: a node that refers to what refers to it is only freed
when Python looks for cycles, which it does not among the configurations of a large home (see ``memory``)."""

_SENSITIVE_NAME = re.compile(r"password|secret|key|token", re.IGNORECASE)


def has_secret_name(pointer: str) -> bool:
    """Return whether a string at a place is a secret by its names alone, where no schema says otherwise."""
    return _SENSITIVE_NAME.search(pointer) is not None


class Node:
    """The subschemas that describe a place, including the targets of their local ``$ref``.

    Attributes:
        described: Whether there is any subschema.
        marked: Whether the schema marks the place as sensitive; None if it has no annotation.
        numeric: Whether the schema expects a number or a boolean, as for ``max_tokens``.
        restart_required: Whether the service has to restart to apply a change of the place.
        items_need_restart: Whether it has to for a change of an item, if the place is an array.
        variable: The environment variable of the place (``x-env``); None without one.
        entity: How the place appears in Home Assistant (``x-home-assistant``); None without this annotation.
        closed: Whether the schema names properties, so that other names are suspect.
        declared: The names of the properties.
        members: What ``member`` returned for declared names so far; others are not kept, as documents may contain any
            number of them.
    """

    __slots__ = (
        "__weakref__",
        "_additional",
        "_item",
        "_marks",
        "_nodes",
        "_only_items",
        "closed",
        "declared",
        "described",
        "entity",
        "items_need_restart",
        "marked",
        "members",
        "numeric",
        "restart_required",
        "variable",
    )

    def __init__(self, marks: Sequence[_Mark], nodes: _Nodes) -> None:
        schemas = [schema for _, schema in marks]
        said = [bool(schema[SENSITIVE]) for schema in schemas if SENSITIVE in schema]
        said += [True for schema in schemas if schema.get("writeOnly") is True]
        items = [target for root, schema in marks for target in follow(root, schema.get("items"))]
        self.described = bool(schemas)
        self.marked = any(said) if said else None
        self.numeric = any(schema.get("type") in ("integer", "number", "boolean") for schema in schemas)
        self.restart_required = any(schema.get(RESTART_REQUIRED) is True for schema in schemas)
        self.items_need_restart = any(item.get(RESTART_REQUIRED) is True for item in items)
        self.variable = next(
            (str(schema[ENVIRONMENT_VARIABLE]) for schema in schemas if ENVIRONMENT_VARIABLE in schema), None
        )
        self.entity: EntityMark | None = next(
            (parse_mark(schema[HOME_ASSISTANT]) for schema in schemas if HOME_ASSISTANT in schema), None
        )
        self.closed = any("properties" in schema for schema in schemas)
        self.declared = frozenset(
            name for schema in schemas if isinstance(names := schema.get("properties"), dict) for name in names
        )
        self._only_items = bool(schemas) and not any(
            "properties" in schema or "additionalProperties" in schema for schema in schemas
        )
        self._marks = marks
        self._nodes = nodes
        self.members: dict[str, tuple[Node, bool]] = {}
        self._additional: Node | None = None
        self._item: Node | None = None

    def member(self, name: str) -> "tuple[Node, bool]":
        """Return the node of a member, and whether its name contains password, secret, key or token."""
        known = self.members.get(name)
        if known is not None:
            return known
        named = _SENSITIVE_NAME.search(name) is not None
        if name in self.declared:
            known = self.members[name] = self._described_by(_inner(schema, name) for schema in self._schemas), named
            return known
        return self._others(), named

    def child(self, name: str) -> "Node":
        """Return the node of a member, without a look at its name."""
        if name in self.declared:
            return self.member(name)[0]
        return self._others()

    def _others(self) -> "Node":
        """Return the node of every member that is not declared."""
        if self._additional is None:
            self._additional = self._described_by(schema.get("additionalProperties") for schema in self._schemas)
        return self._additional

    def item(self) -> "Node":
        """Return the node of every item, if the place is an array."""
        if self._item is None:
            self._item = self._described_by(schema.get("items") for schema in self._schemas)
        return self._item

    def step(self, token: str) -> "Node":
        """Return the node that a reference token of a pointer leads to, whether or not a document has the place."""
        return self.item() if self.is_index(token) else self.child(token)

    def is_index(self, token: str) -> bool:
        """Return whether a reference token can only be the index of an item here."""
        return token.isdigit() and self._only_items

    def is_secret(self, value: Json, *, named: bool) -> bool:
        """Return whether a value of this place is a secret; names decide only if the schema has no annotation.

        Args:
            value: The value.
            named: Whether a name on the way to the place contains password, secret, key or token.
        """
        return isinstance(value, str) and (named if self.marked is None else self.marked)

    def is_hidden(self, value: Json, *, named: bool) -> bool:
        """Return whether no message may quote a value of this place; arguments as for ``is_secret``.

        That is the case for each secret, and for a value of another type in the place of a secret, since it may have
        been meant as one.
        """
        meant = named and not self.numeric if self.marked is None else self.marked
        return meant or self.is_secret(value, named=named)

    @property
    def schemas(self) -> list[JsonObject]:
        """The subschemas, each without the targets of its ``$ref``, which stand beside it."""
        return [schema for _, schema in self._marks]

    @property
    def _schemas(self) -> Iterator[JsonObject]:
        return (schema for _, schema in self._marks)

    def _described_by(self, inner: Iterator[Json]) -> "Node":
        """Return the node of a place that these subschemas of the own ones describe."""
        roots = (root for root, _ in self._marks)
        return _node(
            ((root, target) for root, node in zip(roots, inner, strict=True) for target in follow(root, node)),
            self._nodes,
        )


class Place(NamedTuple):
    """A place of a document, and what its subschemas say about it.

    Attributes:
        pointer: JSON Pointer of the place.
        value: Its value.
        sensitive: Whether it is a secret.
        hidden: Whether no message may quote it.
        numeric: Whether the schema expects a number or a boolean.
    """

    pointer: str
    value: Json
    sensitive: bool
    hidden: bool
    numeric: bool


def compile_tree(schemas: Sequence[JsonObject]) -> Node:
    """Return the node of a whole document that each of some schemas describes."""
    return _node(((schema, target) for schema in schemas for target in follow(schema, schema)), WeakValueDictionary())


def node_at(root: Node, pointer: str) -> Node:
    """Return the node of a place, whether or not a document has it.

    Raises:
        InvalidRequest: The pointer is malformed.
    """
    node = root
    for token in parse_pointer(pointer):
        node = node.step(token)
    return node


def walk(node: Node, value: Json, pointer: str = "", *, named: bool = False) -> Iterator[Place]:
    """Yield every place of a value, parents first; ``named`` as in ``Node.is_secret``."""
    secret, hidden = node.is_secret(value, named=named), node.is_hidden(value, named=named)
    yield Place(pointer, value, secret, hidden, node.numeric)
    if isinstance(value, dict):
        for key, member in value.items():
            inner, sensitive = node.member(key)
            yield from walk(inner, member, f"{pointer}/{escape(key)}", named=named or sensitive)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(node.item(), item, f"{pointer}/{index}", named=named)


def secrets(root: Node, document: Json) -> dict[str, str]:
    """Return the sensitive strings of a document by JSON Pointer, in document order."""
    found: dict[str, str] = {}
    if isinstance(document, dict | list):
        _collect_secrets(root, document, "", found, named=False)
    elif isinstance(document, str) and root.is_secret(document, named=False):
        found[""] = document
    return found


def is_secret(root: Node, document: Json, pointer: str) -> bool:
    """Return whether there is a sensitive string at a pointer of a document: whether ``secrets`` has it."""
    node, value, named = _descend(root, document, pointer)
    return not isinstance(value, UnsetType) and node.is_secret(value, named=named)


def expects_secret(root: Node, pointer: str) -> bool:
    """Return whether a string at a place would be a secret, whether or not a document has the place.

    Raises:
        InvalidRequest: The pointer is malformed.
    """
    node, named = root, False
    for token in parse_pointer(pointer):
        if node.is_index(token):
            node = node.item()
        else:
            node, sensitive = node.member(token)
            named = named or sensitive
    return named and not node.numeric if node.marked is None else node.marked


def _collect_secrets(
    node: Node, container: JsonObject | list[Json], pointer: str, found: dict[str, str], *, named: bool
) -> None:
    # Makes no Place and, but for secrets and containers, no pointer: several walks of a write look for secrets only.
    if isinstance(container, dict):
        members = node.members
        for key, member in container.items():
            if isinstance(member, str):
                inner, sensitive = members.get(key) or node.member(key)
                if named or sensitive if inner.marked is None else inner.marked:
                    found[f"{pointer}/{escape(key)}"] = member
            elif member and isinstance(member, dict | list):
                inner, sensitive = node.member(key)
                _collect_secrets(inner, member, f"{pointer}/{escape(key)}", found, named=named or sensitive)
        return
    inner = node.item()
    secret = named if inner.marked is None else inner.marked
    for index, item in enumerate(container):
        if isinstance(item, str):
            if secret:
                found[f"{pointer}/{index}"] = item
        elif item and isinstance(item, dict | list):
            _collect_secrets(inner, item, f"{pointer}/{index}", found, named=named)


def hides(root: Node, document: Json, pointer: str) -> bool:
    """Return whether no message may quote the value at a pointer of a document, because of itself or what is in it."""
    node, value, named = _descend(root, document, pointer)
    return not isinstance(value, UnsetType) and _hides(node, value, named=named)


def _hides(node: Node, value: Json, *, named: bool) -> bool:
    if node.is_hidden(value, named=named):
        return True
    if isinstance(value, dict):
        members = node.members
        for key, member in value.items():
            inner, sensitive = members.get(key) or node.member(key)
            if _hides(inner, member, named=named or sensitive):
                return True
    elif isinstance(value, list):
        inner = node.item()
        return any(_hides(inner, item, named=named) for item in value)
    return False


def _descend(root: Node, document: Json, pointer: str) -> tuple[Node, Json | UnsetType, bool]:
    """Return the node and the value at a pointer of a document, and whether a name on the way is a sensitive one."""
    node, value, named = root, document, False
    for token in parse_pointer(pointer):
        inner = find(value, f"/{escape(token)}")
        if isinstance(inner, UnsetType):
            return node, inner, named
        if isinstance(value, list):
            node = node.item()
        else:
            node, sensitive = node.member(token)
            named = named or sensitive
        value = inner
    return node, value, named


def unknown(root: Node, document: Json) -> list[str]:
    """Return the JSON Pointers of members that no schema describes although it names others, outermost first."""
    found: list[str] = []
    if isinstance(document, dict | list):
        _collect_unknown(root, document, "", found)
    return found


def _collect_unknown(node: Node, container: JsonObject | list[Json], pointer: str, found: list[str]) -> None:
    if isinstance(container, dict):
        for key, member in container.items():
            inner = node.child(key)
            if not inner.described:
                if node.closed:
                    found.append(f"{pointer}/{escape(key)}")
            elif member and isinstance(member, dict | list):
                _collect_unknown(inner, member, f"{pointer}/{escape(key)}", found)
        return
    inner = node.item()
    if inner.described:
        for index, item in enumerate(container):
            if item and isinstance(item, dict | list):
                _collect_unknown(inner, item, f"{pointer}/{index}", found)


_Restarts = dict[str, tuple[Node, bool]]
"""Results of ``_restart_at`` by pointer."""


def restart_required(root: Node, pointers: Iterable[str]) -> list[str]:
    """Return the pointers at which a place, one around it, or an item of the array there needs a restart."""
    known: _Restarts = {"": (root, False)}
    places = ((pointer, *_restart_at(pointer, known)) for pointer in pointers)
    # An array changes as a whole.
    return [pointer for pointer, node, restarts in places if restarts or node.items_need_restart]


def _restart_at(pointer: str, known: _Restarts) -> tuple[Node, bool]:
    """Return the node of a place, and whether the place or one around it needs a restart."""
    found = known.get(pointer)
    if found is None:
        outer, _, token = pointer.rpartition("/")
        around, restarts = _restart_at(outer, known)
        node = around.step(token.replace("~1", "/").replace("~0", "~"))
        found = known[pointer] = node, restarts or node.restart_required
    return found


def resolve(root: JsonObject, reference: Json) -> JsonObject | None:
    """Return the target of a local ``$ref`` (``#`` or ``#/a/b``); None if it is not a subschema."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    if reference[1:] and not reference.startswith("#/"):
        return None
    try:
        target = find(root, reference[1:].replace("%25", "%").replace("%22", '"'))
    except InvalidRequest:
        return None
    return target if isinstance(target, dict) else None


def follow(root: JsonObject, node: Json) -> list[JsonObject]:
    """Return a subschema and the targets of its ``$ref``; in 2020-12 the siblings of a ``$ref`` apply, too."""
    found: list[JsonObject] = []
    while isinstance(node, dict) and all(node is not known for known in found):
        found.append(node)
        node = resolve(root, node.get("$ref"))
    return found


def _node(marks: Iterator[_Mark], nodes: _Nodes) -> Node:
    """Return the node of some subschemas; each counts once."""
    # By identity, as the values of a schema need not be hashable. Each node keeps its subschemas, so that no other
    # object gets their ids.
    distinct = {(id(root), id(schema)): (root, schema) for root, schema in marks}
    key = tuple(part for pair in distinct for part in pair)
    found = nodes.get(key)
    if found is None:
        found = nodes[key] = Node(list(distinct.values()), nodes)
    return found


def _inner(schema: JsonObject, name: str) -> Json:
    """Return the subschema of a member."""
    properties = schema.get("properties")
    if isinstance(properties, dict) and name in properties:
        return properties[name]
    return schema.get("additionalProperties")
