"""The reader of ``environments/access.yaml``, which checks the rules and resolves groups."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from aliciacfg.access.rules import FILE, NO_GRANTS, Access, Grants
from aliciacfg.documents import Json, JsonObject, escape, type_name, yaml_reader
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.model import names

_TOP_KEYS = ("groups", "services", "admins", "users")
_RULE_KEYS = ("read", "write", "secrets")
_PLAINTEXT = "plaintext"
_ALLOWED_KEYS = ("allowed_services", "allowed_groups")


def load(text: str, *, services: Collection[str], all_known: bool = True, file: str = FILE) -> Access:
    """Read access rules.

    Rules are enforced even if the file is empty: a file that was emptied by accident must not open the home.

    Args:
        text: The content of the file.
        services: The services of the environment files of all environments.
        all_known: Whether these are all. While an environment file cannot be read, a name that the rules have and
            ``services`` has not may be in that file, so it is no problem.
        file: The file's name in problems.

    Raises:
        SourceError: The rules are invalid; with every problem, its line, and what to do.
    """
    return _Reader(yaml_reader.load(text, file=file), file, services, all_known=all_known).read()


class _Reader:
    """Reads one file and collects its problems."""

    def __init__(
        self, document: yaml_reader.YamlDocument, file: str, services: Collection[str], *, all_known: bool
    ) -> None:
        self._document = document
        self._file = file
        self._services = services
        self._all_known = all_known
        self._problems: list[SourceProblem] = []
        self._known: set[str] = set()
        self._groups: dict[str, frozenset[str]] = {}
        self._plaintext: set[str] = set()

    def read(self) -> Access:
        top = self._mapping(self._document.value, "", _TOP_KEYS)
        admins = self._callers(top.get("admins"), "/admins")
        users = self._callers(top.get("users"), "/users")
        self._known = {*self._services, *admins, *users}
        for name, members in self._mapping(top.get("groups"), "/groups").items():
            self._groups[name] = frozenset(self._members(members, f"/groups/{escape(name)}"))
        granted = {
            name: self._grants(name, rule, f"/services/{escape(name)}")
            for name, rule in self._mapping(top.get("services"), "/services").items()
            if self._is_service(name)
        }
        if self._problems:
            raise SourceError(sorted(self._problems, key=lambda problem: problem.line or 0))
        services = {name: granted.get(name, NO_GRANTS) for name in sorted({*self._services, *granted})}
        return Access(
            services=services,
            admins=frozenset(admins),
            users=frozenset(users),
            plaintext=frozenset(self._plaintext),
            enforced=True,
        )

    def _grants(self, service: str, value: Json, pointer: str) -> Grants:
        rule = self._mapping(value, pointer, _RULE_KEYS)
        how = rule.get("secrets")
        if how == _PLAINTEXT:
            self._plaintext.add(service)
        elif how is not None:
            self._wrong(f"{pointer}/secrets", f"expected {_PLAINTEXT!r}, or leave it out: secrets are sealed or hidden")
        writers = self._allowed(rule.get("write"), f"{pointer}/write")
        return Grants(self._allowed(rule.get("read"), f"{pointer}/read") | writers, writers)

    def _allowed(self, value: Json, pointer: str) -> frozenset[str]:
        rule = self._mapping(value, pointer, _ALLOWED_KEYS)
        allowed = set(self._members(rule.get("allowed_services"), f"{pointer}/allowed_services"))
        for place, group in self._strings(rule.get("allowed_groups"), f"{pointer}/allowed_groups"):
            if group in self._groups:
                allowed |= self._groups[group]
            else:
                remedy = _nearest(group, self._groups, "add it to groups")
                self._wrong(place, f"there is no such group; {remedy}", f"there is no group {group!r}; {remedy}")
        return frozenset(allowed)

    def _is_service(self, name: str) -> bool:
        if name in self._services or not self._all_known:
            return True
        remedy = _nearest(name, self._services, "define it there, or remove it here")
        self._wrong(
            f"/services/{escape(name)}",
            f"no environment file has such a service; {remedy}",
            f"no environment file has a service {name!r}; {remedy}",
        )
        return False

    def _members(self, value: Json, pointer: str) -> list[str]:
        found = self._strings(value, pointer)
        for place, name in found:
            if self._all_known and name not in self._known:
                remedy = _nearest(name, self._known, "correct it, or add it to users")
                wrong = f"is neither a service of the environment files nor under users; {remedy}"
                self._wrong(place, f"this name {wrong}", f"{name!r} {wrong}")
        return [name for _, name in found]

    def _callers(self, value: Json, pointer: str) -> list[str]:
        found = self._strings(value, pointer)
        for place, name in found:
            if problem := names.caller_problem(name):
                self._wrong(place, f"this name cannot name a caller: {names.SERVICE_FORM}", problem)
        return [name for _, name in found]

    def _strings(self, value: Json, pointer: str) -> list[tuple[str, str]]:
        """Return the strings of a list with the JSON Pointer of each."""
        if value is None:
            return []
        if not isinstance(value, list):
            self._wrong(
                pointer,
                f"found {type_name(value)}; expected a list of names",
                f"found {type_name(value)} at {pointer}; expected a list of names",
            )
            return []
        found: list[tuple[str, str]] = []
        for index, item in enumerate(value):
            place = f"{pointer}/{index}"
            if isinstance(item, str):
                found.append((place, item))
            else:
                self._wrong(place, f"found {type_name(item)}; expected a name")
        return found

    def _mapping(self, value: Json, pointer: str, keys: tuple[str, ...] = ()) -> JsonObject:
        """Return a mapping, with only the keys ``keys`` if any are given; an empty section is null in YAML."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._wrong(
                pointer,
                f"found {type_name(value)}; expected a mapping",
                f"found {type_name(value)} at {pointer or 'the top'}; expected a mapping",
            )
            return {}
        for key in (key for key in value if keys and key not in keys):
            remedy = _nearest(key, keys, f"expected one of {', '.join(keys)}")
            unknown = f"is not known here; {remedy}"
            self._wrong(f"{pointer}/{escape(key)}", f"this key {unknown}", f"{key!r} {unknown}")
        return value

    def _wrong(self, pointer: str, message: str, in_full: str = "") -> None:
        line = self._document.lines.get(pointer)
        self._problems.append(SourceProblem(self._file, line, message, pointer, in_full))


def _nearest(name: str, candidates: Iterable[str], otherwise: str) -> str:
    """Return a suggestion for an unknown name: a similar one, otherwise ``otherwise``."""
    # Comparing takes quadratic time, so only the beginning of a long name is compared.
    near = get_close_matches(name[:80], candidates, n=1, cutoff=0.75)
    return f"did you mean {near[0]!r}?" if near else otherwise
