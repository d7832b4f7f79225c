"""The packages: which may import which, and which module owns which library."""

import ast
import gc
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from repository import ROOT

PACKAGE = ROOT / "src" / "aliciacfg"

# Lowest first. A module imports from its own package and from those of lower rows; never from one beside it.
ROWS = (
    ("errors", "atomic_files", "counted", "file_errors", "process", "terminal_text"),
    ("cancellation", "tls", "text_files", "private_files"),
    ("documents", "dotenv_file"),
    ("logs", "model"),
    ("settings", "schemas", "api"),
    ("sealing", "monitoring"),
    ("storage", "variables"),
    ("access", "replicas"),
    ("sources",),
    ("core",),
    ("operations",),
    ("bus",),
    ("mqtt", "http", "client", "execution"),
    ("home_assistant",),
    ("bootstrap",),
    ("daemon", "backups", "diagnosis"),
    ("cli",),
    ("__main__",),
)
ROW = {name: level for level, names in enumerate(ROWS) for name in names}
# Keeps its connection to the database server alive.
DRIVER = "storage.postgres.driver"
# Packages that know no transport.
CORE = {name for names in ROWS[: ROWS.index(("bus",))] for name in names} - {"settings", "tls", "process"}

# Replacing a library changes its owner alone.
OWNERS = {
    # The adapter handles its requests and responses.
    "aiohttp": {"http.*"},
    # On MQTT 3.1.1, in the command line, and in the client for services.
    "aiomqtt": {"bus.aiomqtt_connecting", "client.connection", "mqtt.aiomqtt_client", "mqtt.client"},
    "aiosqlite": {"storage.sqlite.store"},
    "amqtt": {"mqtt.broker.dev_broker"},
    "asyncpg": {DRIVER},
    # Every command is declared with it.
    "click": {"cli.*"},
    "dotenv": {"dotenv_file"},
    "fcntl": {"storage.data_directory", "backups.work_directory"},
    "jsonpatch": {"documents.json_patch"},
    "jsonschema_rs": {"schemas.service_schema"},
    "mqtt5": {"mqtt.mqtt5_packets"},
    "nacl": {"sealing.boxes", "sealing.key_encryption", "sealing.passphrase", "sealing.wrapped"},
    "paho": {"bus.aiomqtt_connecting", "client.connection", "mqtt.aiomqtt_client", "mqtt.client"},
    "prometheus_client": {"monitoring.exposition"},
    "rich": {"cli.output"},
    "ruamel": {"documents.yaml_syntax"},
    "semver": {"model.versions"},
    "sqlite3": {"storage.sqlite.*"},
    "uvloop": {"cli.loop"},
}
# Used in every package.
SHARED = {"msgspec", "structlog"}
# The names of distributions that differ from the imported names.
DISTRIBUTIONS = {"paho": "paho-mqtt", "nacl": "pynacl", "dotenv": "python-dotenv", "ruamel": "ruamel.yaml"}


@dataclass(frozen=True)
class Module:
    name: str
    path: Path

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree, walked once for all tests."""
        # Nothing of it becomes garbage, and the collector would look through all of it again and again.
        collects = gc.isenabled()
        gc.disable()
        try:
            return list(ast.walk(ast.parse(self.path.read_text(), str(self.path))))
        finally:
            if collects:
                gc.enable()

    @property
    def package(self) -> str:
        return self.name.split(".")[0]

    @cached_property
    def imported(self) -> frozenset[str]:
        """The dotted names of all imports anywhere in the module; modules of this project in full."""
        return frozenset(self._imports())

    def _imports(self) -> Iterator[str]:
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} has a relative import"
                assert node.module is not None
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner.removeprefix("aliciacfg.") in PATHS else node.module

    def siblings(self) -> set[str]:
        """The modules of this project that it imports."""
        names = {name.removeprefix("aliciacfg.") for name in self.imported if name.startswith("aliciacfg.")}
        return names - {self.name}

    def libraries(self) -> set[str]:
        """The top-level names of all other imports."""
        return {name.split(".")[0] for name in self.imported} - {"aliciacfg"}

    @cached_property
    def literals(self) -> frozenset[str]:
        """Every string that is not a docstring."""
        return frozenset(self._literals())

    def _literals(self) -> Iterator[str]:
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        bodies = [node.body for node in self.nodes if isinstance(node, documented)]
        docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
        for node in self.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield node.value

    @cached_property
    def identifiers(self) -> frozenset[str]:
        """Every name that it defines or uses."""
        return frozenset(self._identifiers())

    def _identifiers(self) -> Iterator[str]:
        for node in self.nodes:
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                    yield name
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    yield name
                case _:
                    pass


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


PATHS = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name: Module(name, path) for name, path in PATHS.items()}


def test_every_package_has_its_row():
    """The table above has each package exactly once, and no package that does not exist."""
    assert {found.package for found in MODULES.values()} - {"__init__"} == set(ROW)


def test_imports_point_to_lower_rows():
    """Not to a higher row, and not to another package of the same row."""
    wrong = {
        f"{name} imports {other}"
        for name, found in MODULES.items()
        for other in found.siblings()
        if other.split(".")[0] != found.package and ROW[other.split(".")[0]] >= ROW[found.package]
    }
    assert not wrong


def test_imports_have_no_cycle():
    """Within a package too; graphlib raises CycleError with the modules of the cycle."""
    graph = {name: found.siblings() for name, found in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


def test_each_library_is_used_by_its_owner_alone():
    """And every owner uses its library, so that no row of the table is out of date."""
    for library, owners in OWNERS.items():
        users = {name for name, found in MODULES.items() if library in found.libraries()}
        assert all(any(belongs(name, owner) for owner in owners) for name in users), library
        assert all(any(belongs(name, owner) for name in users) for owner in owners), library


def belongs(name: str, owner: str) -> bool:
    """Return whether a module is the owner, or in the package that ``package.*`` names."""
    return f"{name}.".startswith(owner[:-1]) if owner.endswith(".*") else name == owner


def test_every_library_has_an_owner_and_is_declared():
    """Every imported library has an owner and is a declared dependency, and every dependency is imported."""
    imported = {library for found in MODULES.values() for library in found.libraries()}
    foreign = {library for library in imported if library not in sys.stdlib_module_names}
    assert foreign <= OWNERS.keys() | SHARED
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (project["optional-dependencies"][name] for name in ("embedded", "postgres"))
    listed = [*project["dependencies"], *(line for extra in extras for line in extra)]
    declared = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower().replace("_", "-") for line in listed}
    # The C extension of ruamel.yaml, which ruamel.yaml imports itself.
    declared -= {"ruamel.yaml.clib"}
    assert {DISTRIBUTIONS.get(library, library).replace("_", "-") for library in foreign} == declared


def test_logging_is_configured_in_one_place():
    """Other modules only get a logger."""
    for name, found in MODULES.items():
        used = {
            node.attr
            for node in found.nodes
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "structlog"
        }
        if name == "logs":
            assert "configure" in used
        else:
            assert used <= {"get_logger"}, name


@pytest.mark.parametrize("package", sorted(CORE))
def test_the_core_knows_no_transport(package: str):
    """Below the adapters there is no topic, quality of service, socket or status code, and none of their libraries."""
    for found in (found for found in MODULES.values() if found.package == package):
        libraries = {"aiohttp", "aiomqtt", "paho", "mqtt5", "amqtt", "socket", "ssl", "http", "uvloop"}
        assert not found.libraries() & (libraries - {"socket"} if found.name == DRIVER else libraries), found.name
        assert not [text for text in found.literals if "alicia/" in text], found.name
        words = [word for word in found.identifiers if re.search(r"topic|qos|status_code", word, re.IGNORECASE)]
        assert not words, found.name


BACKENDS = {"sqlite": r"(?i)sqlite|pragma|aliciacfg\.db", "postgres": r"(?i)sqlstate|for update|pg_"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_database_backend_is_known_to_its_package_alone(backend: str):
    """Another one is added beside it, and chosen in one place."""
    for name, found in MODULES.items():
        if not belongs(name, f"storage.{backend}.*"):
            backends = {other for other in found.siblings() if belongs(other, f"storage.{backend}.*")}
            assert not backends or name == "storage.backend", name
            if name != "storage.backend":
                assert not [text for text in found.literals if re.search(BACKENDS[backend], text)], name
