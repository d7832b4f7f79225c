"""Environment and schema files as layers, lowest first.

    schema defaults
    < base.yaml defaults     < <environment>.yaml defaults     < <environment>-secrets.yaml defaults
    < base.yaml services     < <environment>.yaml services     < <environment>-secrets.yaml services
    < overlay (what was changed at run time; not a file)

Each layer is a merge patch (RFC 7396) on the running result, so what base says about one service beats what
an environment says about all services. Spring Cloud Config and others do the reverse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Literal

from aliciacfg.access.rules import Access
from aliciacfg.documents import JsonObject, escape, merge
from aliciacfg.errors import SourceProblem
from aliciacfg.model import names
from aliciacfg.schemas.migrations import MigrationFile
from aliciacfg.schemas.service_schema import ServiceSchema

BASE = "base"
ACCESS = "access"


def is_secrets_file(file: str) -> bool:
    """Whether an environment file, as its operator names it, is one of secrets."""
    return PurePath(file).stem.endswith(names.SECRETS_SUFFIX)


@dataclass(frozen=True, slots=True)
class Layer:
    """What one section of one environment file says about one service.

    Attributes:
        file: The file as its operator names it.
        section: The top-level key the patch stands under.
        patch: A merge patch.
        prefix: JSON Pointer of the patch inside the file.
        lines: 1-based lines of the file by JSON Pointer.
    """

    file: str
    section: Literal["defaults", "services"]
    patch: JsonObject
    prefix: str
    lines: Mapping[str, int]

    @property
    def secret(self) -> bool:
        """Whether it is of a file of secrets."""
        return is_secrets_file(self.file)

    @property
    def placed_lines(self) -> Mapping[str, int]:
        """The lines by JSON Pointer of the service's document."""
        size = len(self.prefix)
        return {pointer[size:]: line for pointer, line in self.lines.items() if pointer.startswith(f"{self.prefix}/")}

    def line(self, pointer: str) -> int | None:
        """The line that says something about ``pointer`` of the service's document, if this layer does."""
        return self.lines.get(self.prefix + pointer)


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """One parsed environment file."""

    file: str
    defaults: JsonObject
    services: Mapping[str, JsonObject]
    protected: bool
    lines: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment: its files, lowest first, and what is wrong with them.

    With ``problems`` the files are not usable, and nothing may be composed from them.
    """

    name: str
    files: tuple[EnvironmentFile, ...]
    problems: tuple[SourceProblem, ...] = ()

    @property
    def protected(self) -> bool:
        """Whether a write must say which revision it expects."""
        return any(file.protected for file in self.files)

    @property
    def services(self) -> frozenset[str]:
        """The services that the files name."""
        return frozenset(name for file in self.files for name in file.services)

    def layers(self, service: str) -> list[Layer]:
        """The layers of one service, lowest first."""
        defaults = [Layer(f.file, "defaults", f.defaults, "/defaults", f.lines) for f in self.files]
        own = [
            Layer(f.file, "services", f.services[service], f"/services/{escape(service)}", f.lines)
            for f in self.files
            if service in f.services
        ]
        return [layer for layer in [*defaults, *own] if layer.patch]

    def locate(self, service: str, pointer: str) -> tuple[str, int | None]:
        """The file and line that decide a place of a service's document, or the nearest place around it."""
        layers = self.layers(service)
        while True:
            for layer in reversed(layers):
                if (pointer or layer.section == "services") and (line := layer.line(pointer)) is not None:
                    return layer.file, line
            if not pointer:
                return f"environments/{self.name}.yaml", None
            pointer = pointer.rpartition("/")[0]


Stamp = tuple[int, int, int]
"""Modification time in nanoseconds, size in bytes and inode of a file."""
Stamps = Mapping[str, Stamp]
"""Stamps by path."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything read from files at one moment.

    Attributes:
        environments: By name.
        schemas: By service.
        migrations: Steps between major versions of schemas, by service.
        access: The access rules; None without a file.
        stamps: The files as they were before they were read.
        fallback: The schema of a service without a schema file.
    """

    environments: Mapping[str, Environment]
    schemas: Mapping[str, ServiceSchema]
    migrations: Mapping[str, tuple[MigrationFile, ...]] = field(default_factory=dict[str, tuple[MigrationFile, ...]])
    access: Access | None = None
    stamps: "Stamps" = field(default_factory=dict[str, "Stamp"])
    fallback: ServiceSchema = field(default_factory=lambda: ServiceSchema(None, title="base"))

    def schema(self, service: str) -> ServiceSchema:
        """A service's schema; the base contract alone for a service without a schema file."""
        return self.schemas.get(service, self.fallback)

    def with_schemas(self, others: Mapping[str, ServiceSchema | None]) -> "Sources":
        """A copy with other schemas for some services; None for the base contract alone."""
        kept = {service: schema for service, schema in self.schemas.items() if service not in others}
        return replace(self, schemas={**kept, **{name: found for name, found in others.items() if found is not None}})

    def defaults(self, environment: str, service: str) -> JsonObject:
        """The lowest layer: who the document is for, then the defaults of contract and schema.

        ``mqtt_config.username`` is the service's name unless something says otherwise: the home's broker
        knows each service by its name.
        """
        identity: JsonObject = {
            "service_name": service,
            "environment": environment,
            "mqtt_config": {"username": service},
        }
        return merge(identity, self.schema(service).defaults)
