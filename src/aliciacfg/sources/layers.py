"""The layers of a configuration, lowest first, and the parsed files that they come from.

    schema defaults
    < base.yaml defaults     < <environment>.yaml defaults     < <environment>-secrets.yaml defaults
    < base.yaml services     < <environment>.yaml services     < <environment>-secrets.yaml services
    < overlay (changes made at run time; not a file)

Each layer is a merge patch (RFC 7396) on the result of those below. The ``services`` section of base.yaml therefore
overrides the ``defaults`` section of an environment; in Spring Cloud Config and others it is the reverse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Literal

from msgspec import UNSET

from aliciacfg.access.rules import Access
from aliciacfg.documents import JsonObject, escape, merge
from aliciacfg.errors import Finding, Problem, SourceProblem
from aliciacfg.model import names
from aliciacfg.schemas.migrations import MigrationFile
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sources.file_texts import FileTexts
from aliciacfg.sources.line_numbers import LineNumbers

BASE = "base"
BROKER = "mqtt_config"
"""The member of a configuration that says how the service connects to the broker."""
ACCESS = "access"


def is_secrets_file(file: str) -> bool:
    """Return whether an environment file is a secrets file, by its name."""
    return PurePath(file).stem.endswith(names.SECRETS_SUFFIX)


@dataclass(frozen=True, slots=True)
class Layer:
    """The part of an environment file that applies to a service.

    Attributes:
        file: The file's name relative to the home.
        section: The section of the file.
        patch: A merge patch.
        prefix: JSON Pointer of the patch in the file.
        lines: The lines of the file.
    """

    file: str
    section: Literal["defaults", "services"]
    patch: JsonObject
    prefix: str
    lines: LineNumbers

    @property
    def secret(self) -> bool:
        """Whether the file is a secrets file."""
        return is_secrets_file(self.file)

    @property
    def names_broker(self) -> bool:
        """Whether the service has a connection to the broker because of this layer, unless a higher one removes it."""
        return isinstance(self.patch.get(BROKER), dict)

    def line(self, pointer: str) -> int | None:
        """Return the line of a place in the service's document; None if the layer does not contain it."""
        return self.lines.get(self.prefix + pointer)


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """A parsed environment file.

    Attributes:
        file: The file's name relative to the home.
        defaults: The section ``defaults``, a merge patch for every service.
        services: The section ``services``, a merge patch for each service.
        protected: Whether writes in the environment must have ``expected_revision``.
        lines: The lines of the file.
    """

    file: str
    defaults: JsonObject
    services: Mapping[str, JsonObject]
    protected: bool
    lines: LineNumbers


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment.

    Attributes:
        name: Its name.
        files: Its files, lowest first.
        problems: The problems of its files; if there are any, nothing must be composed from them.
        drafts: If there are any, its files as far as they can be read, lowest first, for people to look at only: a
            value whose variable is not set is ``null``.
        services: The services that the files name; made once, as every service of a home asks for it.
        default_layers: The layers that all services have, lowest first; made once, too.
    """

    name: str
    files: tuple[EnvironmentFile, ...]
    problems: tuple[SourceProblem, ...] = ()
    drafts: tuple[EnvironmentFile, ...] = ()
    services: frozenset[str] = field(init=False, repr=False, compare=False)
    default_layers: tuple[Layer, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = frozenset(name for file in self.files for name in file.services)
        object.__setattr__(self, "services", named)
        layers = (Layer(f.file, "defaults", f.defaults, "/defaults", f.lines) for f in self.files if f.defaults)
        object.__setattr__(self, "default_layers", tuple(layers))

    @property
    def protected(self) -> bool:
        """Whether writes must have ``expected_revision``."""
        return any(file.protected for file in self.files)

    @property
    def draft(self) -> "Environment":
        """The environment as far as its files can be read, for people to look at only."""
        return Environment(self.name, self.drafts) if self.problems else self

    def layers(self, service: str) -> list[Layer]:
        """Return the layers of a service, lowest first."""
        return [*self.default_layers, *self.own_layers(service)]

    def own_layers(self, service: str) -> list[Layer]:
        """Return the layers of a service that no other one has, lowest first."""
        return [
            Layer(f.file, "services", patch, f"/services/{escape(service)}", f.lines)
            for f in self.files
            if (patch := f.services.get(service))
        ]

    def locate(self, service: str, pointer: str) -> tuple[str, int | None]:
        """Return the file and line that set a place of a service's document, or the nearest place around it."""
        layers = self.layers(service)
        while True:
            for layer in reversed(layers):
                if (pointer or layer.section == "services") and (line := layer.line(pointer)) is not None:
                    return layer.file, line
            if not pointer:
                return f"environments/{self.name}.yaml", None
            pointer = pointer.rpartition("/")[0]

    def located(self, service: str, finding: Finding) -> Problem:
        """Return a problem of a service's document, as any reader may see it, with the file and line that caused it."""
        file, line = self.locate(service, finding.pointer)
        where = file if line is None else f"{file}:{line}"
        shown = finding.shown
        return Problem(
            f"/services/{escape(service)}{shown.pointer}",
            f"{where}: {service} {shown.pointer or '(document)'}: {shown.message}",
            file=file,
            line=UNSET if line is None else line,
            service=service,
        )


Stamp = tuple[int, ...]
"""Modification and status time in nanoseconds, size in bytes, inode and device of a file.

Programs set the modification time as they like, but not the status time, which changes with every write.
"""
Stamps = Mapping[str, Stamp]
"""Stamps by path."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The content of all files at one moment.

    Attributes:
        environments: The environments by name.
        schemas: The schemas by service.
        migrations: The migrations between major versions of a service's schema, by service.
        access: The access rules; None without a file.
        stamps: The stamps of the files before they were read, by path.
        files: Every file that was found, by its name relative to the home, and whether it contains anything.
        set_aside: What is wrong with files that are ignored, because their names cannot be typed.
        texts: The texts that they were parsed from, where several daemons compose from the same; None elsewhere.
        fallback: The schema of a service without a schema file.
    """

    environments: Mapping[str, Environment]
    schemas: Mapping[str, ServiceSchema]
    migrations: Mapping[str, tuple[MigrationFile, ...]] = field(default_factory=dict[str, tuple[MigrationFile, ...]])
    access: Access | None = None
    stamps: "Stamps" = field(default_factory=dict[str, "Stamp"])
    files: Mapping[str, bool] = field(default_factory=dict[str, bool])
    set_aside: tuple[SourceProblem, ...] = ()
    texts: FileTexts | None = None
    fallback: ServiceSchema = field(default_factory=lambda: ServiceSchema(None, title="base"))

    def schema(self, service: str) -> ServiceSchema:
        """Return the schema of a service; for a service without a schema file, the base contract alone."""
        return self.schemas.get(service, self.fallback)

    def with_default_settings(self, settings: JsonObject) -> JsonObject:
        """Return settings of a new service, with those that the defaults of any environment add to them."""
        merged: JsonObject = {}
        for environment in self.environments.values():
            for layer in environment.default_layers:
                found = layer.patch.get("settings")
                merged = merge(merged, found) if isinstance(found, dict) else merged
        return merge(merged, settings)

    def with_schemas(self, others: Mapping[str, ServiceSchema | None]) -> "Sources":
        """Return a copy with other schemas for some services; None stands for the base contract alone."""
        kept = {service: schema for service, schema in self.schemas.items() if service not in others}
        return replace(self, schemas={**kept, **{name: found for name, found in others.items() if found is not None}})

    def defaults(self, environment: str, service: str) -> JsonObject:
        """Return the lowest layer: service, environment and user name, with the defaults of the schemas.

        ``mqtt_config.username`` is the service's name, by which the broker knows a service, unless a layer sets
        another one. A service whose files and schema have no ``mqtt_config`` gets none here: its defaults alone would
        be a connection without broker and password.
        """
        identity: JsonObject = {"service_name": service, "environment": environment}
        schema = self.schema(service)
        if schema.defaults[BROKER] != self.fallback.defaults[BROKER] or self._names_broker(environment, service):
            return merge({**identity, BROKER: {"username": service}}, schema.defaults)
        return {**identity, **{name: value for name, value in schema.defaults.items() if name != BROKER}}

    def _names_broker(self, environment: str, service: str) -> bool:
        found = self.environments.get(environment)
        return found is not None and any(layer.names_broker for layer in found.layers(service))
