"""Where ``exec`` has the names of variables from, with and without a daemon, and what it reports."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import pytest

from aliciacfg.cli.exec_source import ClientSource
from aliciacfg.client import ConfigClient, ConfigError, Current, Unavailable
from aliciacfg.client.current import Trust
from aliciacfg.documents import JsonObject
from aliciacfg.model import names

SCHEMA: JsonObject = {"allOf": [{"properties": {"level": {"x-env": "LEVEL"}}}]}


def record(sequence: int) -> Current[dict[str, Any]]:
    return Current(
        settings={}, config={"level": sequence}, revision=sequence, sequence=sequence, epoch=1,
        checksum=f"c{sequence % 3}", source="live", received_at=0.0, trust=Trust(),
    )  # fmt: skip


@dataclass
class FakeClient:
    """A client without a broker."""

    current: Current[dict[str, Any]]
    answer: JsonObject | ConfigError
    service: str = "bell"
    reports: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def schema(self) -> JsonObject:
        if isinstance(self.answer, ConfigError):
            raise self.answer
        return self.answer

    async def report(self, status: str, error: str | None = None) -> None:
        self.reports.append((status, error))


def source(client: FakeClient, directory: Path | None, said: list[str] | None = None) -> ClientSource:
    found: list[str] = [] if said is None else said
    return ClientSource(cast("ConfigClient[dict[str, Any]]", client), directory, found.append)


async def test_names_are_kept_for_when_the_daemon_is_away(tmp_path: Path):
    """In a private file, which is no other service's snapshot; what the daemon says later counts again."""
    client = FakeClient(record(1), SCHEMA)
    await source(client, tmp_path / "state").current()
    file = tmp_path / "state" / "aliciacfg-bell+schema.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert names.service_problem(file.name.removeprefix("aliciacfg-").removesuffix(".json")) is not None
    client.answer = Unavailable("nobody answers")
    found = await source(client, tmp_path / "state").current()
    assert found.name_of("/level") == "LEVEL"
    client.answer = {"allOf": [{"properties": {"level": {"x-env": "OTHER"}}}]}
    assert (await source(client, tmp_path / "state").current()).name_of("/level") == "OTHER"


async def test_without_names_nothing_starts(tmp_path: Path):
    """Names made from pointers would be others; a file that another user can write is as good as none."""
    client = FakeClient(record(1), Unavailable("nobody answers"))
    for directory in (None, tmp_path):
        with pytest.raises(Unavailable, match="nobody answers"):
            await source(client, directory).current()
    file = tmp_path / "aliciacfg-bell+schema.json"
    said: list[str] = []
    for content, mode in ((b"{", 0o600), (b"{}", 0o622)):
        file.write_bytes(content)
        file.chmod(mode)
        with pytest.raises(Unavailable):
            await source(client, tmp_path, said).current()
    assert len(said) == 2
    assert all(f"{file} is not used: " in line for line in said)


async def test_a_directory_that_cannot_be_written_is_a_warning(tmp_path: Path):
    """The program starts all the same."""
    (tmp_path / "state").write_text("a file")
    said: list[str] = []
    found = await source(FakeClient(record(1), SCHEMA), tmp_path / "state", said).current()
    assert found.name_of("/level") == "LEVEL"
    assert "cannot be written" in said[0]


async def test_only_the_present_configuration_is_reported(tmp_path: Path):
    """A report about a different one would count for it; about an equal one, it does."""
    client = FakeClient(record(1), SCHEMA)
    made = source(client, tmp_path)
    first = await made.current()
    await made.report(first, "applied")
    client.current = record(2)
    await made.report(first, "rejected", "too late")
    assert client.reports == [("applied", None)]
    client.current = record(4)
    await made.report(first, "rejected", "in time")
    assert client.reports == [("applied", None), ("rejected", "in time")]
