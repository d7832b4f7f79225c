"""The layers of the package: who imports whom, and which module owns which library."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import ROOT

PACKAGE = ROOT / "src" / "aliciacfg"

# Lowest first. A module imports from lower layers only: neither from a higher one nor from its own.
LAYERS = (
    ("__init__", "mqtt", "http"),
    ("atomicfiles", "errors", "records"),
    ("alerts", "datadir", "documents", "metrics", "names", "outbox", "sealing", "watching"),
    ("contract", "integrity", "logs", "messages", "settings", "tokens", "versions", "yamlfiles"),
    ("access", "drift", "keyfile", "migrations", "resealing", "schemas", "store"),
    ("explaining", "comparing", "instances", "layers"),
    ("accounts", "composing", "filesealing"),
    ("checking", "state"),
    ("cache", "evolution", "planning"),
    ("delivery",),
    ("adoption", "auditing", "authorization"),
    ("configurations",),
    ("keykeeping",),
    ("administration", "patrol", "reading", "writing"),
    ("service",),
    ("operations",),
    ("components", "tls"),
    ("http.connections", "keypins", "mqtt.connection", "mqtt.envelope", "mqtt.passwords", "mqtt.topics"),
    (
        "mqtt.acl", "mqtt.addresses", "mqtt.devices", "mqtt.requests", "mqtt.requester", "mqtt.retained",
        "http.requester", "devbroker",
    ),
    ("http.pages", "mqtt.brokerfiles"),
    ("mqtt.adapter", "http.adapter"),
    ("assembly",),
    ("mqtt.asyncapi", "http.openapi"),
    ("daemon",),
    ("cli.exits", "cli.loop", "cli.options", "cli.output"),
    ("cli.asking", "cli.inputs", "cli.wording"),
    ("cli.administering",),
    (
        "cli.checking", "cli.comparing", "cli.drifting", "cli.environments", "cli.explaining", "cli.files",
        "cli.history", "cli.keys", "cli.reading", "cli.sealing", "cli.serving", "cli.setting_up",
        "cli.writing",
    ),
    ("cli",),
    ("__main__",),
)  # fmt: skip
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# Everything that knows no transport. `settings` names the broker and the HTTP port, and uses neither.
CORE = {name for names in LAYERS[: LAYERS.index(("operations",)) + 1] for name in names} - {"mqtt", "http", "settings"}

# Replacing a library touches its owner. msgspec and structlog's loggers are everybody's.
OWNERS = {
    "aiohttp": {"http.adapter", "http.requester"},
    "aiomqtt": {"mqtt.connection"},
    "aiosqlite": {"store"},
    "amqtt": {"devbroker"},
    # Commands are written in it.
    "click": {name for name in LEVEL if name.split(".")[0] == "cli"} - {"cli.asking", "cli.loop", "cli.wording"},
    "dotenv": {"settings"},
    "fcntl": {"datadir"},
    "jsonpatch": {"documents"},
    "jsonschema_rs": {"schemas"},
    "nacl": {"sealing"},
    "openapi_ui_bundles": {"http.pages"},
    "paho": {"mqtt.connection"},
    "prometheus_client": {"metrics"},
    "rich": {"cli.output"},
    "ruamel": {"yamlfiles"},
    "semver": {"versions"},
    "sqlite3": {"store"},
    "uvloop": {"cli.loop"},
}
EVERYBODYS = {"msgspec", "structlog"}
# How packages are called where they are installed from, where that is not what they are imported as.
DISTRIBUTIONS = {"paho": "paho-mqtt", "nacl": "pynacl", "dotenv": "python-dotenv", "ruamel": "ruamel.yaml"}


@dataclass(frozen=True)
class Module:
    name: str
    tree: ast.Module

    def imported(self) -> Iterator[str]:
        """Dotted names of everything imported anywhere in the module, names of the package's modules in full."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} has a relative import"
                assert node.module is not None
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner.removeprefix("aliciacfg.") in LEVEL else node.module

    def siblings(self) -> set[str]:
        """The modules of the package that it imports."""
        names = {name for name in self.imported() if name.split(".")[0] == "aliciacfg"}
        return {name.removeprefix("aliciacfg").removeprefix(".") or "__init__" for name in names}

    def libraries(self) -> set[str]:
        """The top-level names of everything else that it imports."""
        return {name.split(".")[0] for name in self.imported()} - {"aliciacfg"}

    def literals(self) -> Iterator[str]:
        """Every string that is not a docstring."""
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        bodies = [node.body for node in ast.walk(self.tree) if isinstance(node, documented)]
        docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield node.value

    def identifiers(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                    yield name
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    yield name
                case _:
                    pass


def module(path: Path) -> Module:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    return Module(name, ast.parse(path.read_text(), str(path)))


MODULES = {found.name: found for found in map(module, sorted(PACKAGE.rglob("*.py")))}


def test_every_module_has_its_place_in_the_layers():
    """A new module is put into the table above once, where it belongs; one that is gone leaves it."""
    assert sorted(MODULES) == sorted(LEVEL)
    assert sum(map(len, LAYERS)) == len(LEVEL)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_to_lower_layers(name: str):
    """Never up, and never sideways."""
    wrong = {other for other in MODULES[name].siblings() if LEVEL[other] >= LEVEL[name]}
    assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"


def test_each_library_is_used_by_its_owner_alone():
    """And the owner does use it, so that the table says nothing that is no longer so."""
    users = {library: {name for name, found in MODULES.items() if library in found.libraries()} for library in OWNERS}
    assert users == OWNERS


def test_every_library_has_an_owner_and_is_declared():
    """What is imported is owned and a dependency; what is a dependency is imported."""
    imported = {library for found in MODULES.values() for library in found.libraries()}
    foreign = {library for library in imported if library not in sys.stdlib_module_names}
    assert foreign <= OWNERS.keys() | EVERYBODYS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["embedded"]]
    declared = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower().replace("_", "-") for line in listed}
    # The C part of ruamel.yaml, which it finds by itself.
    declared -= {"ruamel.yaml.clib"}
    assert {DISTRIBUTIONS.get(library, library).replace("_", "-") for library in foreign} == declared


def test_logging_is_configured_in_one_place():
    """Others ask for a logger and nothing more."""
    for name, found in MODULES.items():
        used = {
            node.attr
            for node in ast.walk(found.tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "structlog"
        }
        if name == "logs":
            assert "configure" in used
        else:
            assert used <= {"get_logger"}, name


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_knows_no_transport(name: str):
    """No topic, quality of service or socket below the adapters, and none of the libraries that bring them."""
    found = MODULES[name]
    assert not found.libraries() & {"aiohttp", "aiomqtt", "paho", "amqtt", "socket", "ssl", "http", "urllib", "uvloop"}
    assert not {other for other in found.siblings() if other.split(".")[0] in {"mqtt", "http", "devbroker"}}
    assert not [text for text in found.literals() if "alicia/" in text]
    assert not [word for word in found.identifiers() if re.search(r"topic|qos|status_code", word, re.IGNORECASE)]


def test_the_two_adapters_do_not_know_each_other():
    """Either can be taken away."""
    for name, found in MODULES.items():
        package, other = name.split(".")[0], {"mqtt": "http", "http": "mqtt"}
        if package in other:
            assert not [sibling for sibling in found.siblings() if sibling.split(".")[0] == other[package]]
