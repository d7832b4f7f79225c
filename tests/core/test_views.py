"""How often secrets are sealed to a service's key."""

from pathlib import Path

import pytest
from nacl.public import PrivateKey

from aliciacfg.core import views
from aliciacfg.sealing.boxes import Keyring, PublicKey
from builders import environment_file
from inprocess import core


async def test_the_secrets_of_a_revision_are_sealed_to_a_key_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Reads, and writes that need what readers have, take the boxes that are there; another key has its own."""
    sealed: list[int] = []
    seal = Keyring.seal_to_recipient

    def counted(self: Keyring, key: PublicKey, value: str, *, revision: int, **place: str) -> str:
        sealed.append(revision)
        return seal(self, key, value, revision=revision, **place)

    monkeypatch.setattr(Keyring, "seal_to_recipient", counted)
    async with core(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}})}) as made:
        for _ in range(2):
            key = PublicKey(bytes(PrivateKey.generate().public_key))
            await made.ask("recipient", "bell", public_key=str(key))
            sealed.clear()
            config = (await made.ask("get", "bell"))["config"]
            assert config["mqtt_config"]["password"].startswith(f"sealed:v1:{key.key_id}:")
            await made.ask("list", include="config")
            await made.ask("validate", "bell", config=config)
            await made.ask("set", "bell", config=config, dry_run=True)
            assert len(sealed) <= 1
            await made.ask("patch", "bell", patch={"settings": {"note": key.key_id}})
            await made.ask("get", "bell")
            assert len(sealed) <= 2
            assert len(set(sealed)) == len(sealed)


async def test_few_revisions_are_kept_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Boxes are for the revisions that were asked for lately."""
    monkeypatch.setattr(views, "_MAX_SEALED_RECORDS", 2)
    async with core(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}})}) as made:
        key = PublicKey(bytes(PrivateKey.generate().public_key))
        await made.ask("recipient", "bell", public_key=str(key))
        for number in range(5):
            await made.ask("patch", "bell", patch={"settings": {"n": number}})
        for revision in range(1, 6):
            await made.ask("get", "bell", revision=revision)
        assert len(made.parts.service.reads._parts.views._sealed) == 2
