"""What is left out of imports in a block is there again after it."""

import importlib
import os
import ssl
import sys
from pathlib import Path

import pytest
import trustme

from aliciacfg.process.library_imports import absent, without_authorities


def test_a_module_is_absent_in_the_block_alone(monkeypatch: pytest.MonkeyPatch):
    """An import of it fails there, as if it were not installed, also if the block ends with an error."""
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(ModuleNotFoundError), absent("colorsys"):
        importlib.import_module("colorsys")
    assert "colorsys" not in sys.modules
    assert importlib.import_module("colorsys").__name__ == "colorsys"


def test_what_is_imported_already_stays():
    """Others have it, and would otherwise get a second one."""
    with absent("pytest"):
        assert importlib.import_module("pytest") is pytest
    assert sys.modules["pytest"] is pytest


def test_the_systems_authorities_are_trusted_outside_of_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also those that the environment names; what it named before, it names afterwards."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    before = dict(os.environ)
    with without_authorities():
        assert ssl.create_default_context().cert_store_stats()["x509_ca"] == 0
    assert ssl.create_default_context().cert_store_stats()["x509_ca"] == 1
    assert dict(os.environ) == before
