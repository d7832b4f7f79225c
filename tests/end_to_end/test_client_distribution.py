"""The wheel of the client alone, where only its three dependencies are."""

import json
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

from repository import ROOT

# aiomqtt stands on paho, PyNaCl on the compiled part of cffi.
LIBRARIES = ("aiomqtt", "paho", "msgspec", "nacl", "_cffi_backend")
PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:3]
import asyncio
from aliciacfg.client import BlockingConfigClient, ConfigClient
with BlockingConfigClient(ConfigClient.from_file(sys.argv[3])) as config:
    settings = config.current.settings
import json
ours = sorted(name for name in sys.modules if name.split(".")[0] == "aliciacfg")
others = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"__main__", "aliciacfg"}
where = sys.modules["aliciacfg.client"].__file__
print(json.dumps({"settings": settings, "ours": ours, "others": sorted(others), "where": where}))
"""


def test_the_wheel_needs_its_three_dependencies_only(tmp_path: Path):
    """Nothing else is to be had there: neither the other packages nor the daemon's modules."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT / "packaging" / "client", check=True, capture_output=True, timeout=50)
    (wheel,) = tmp_path.glob("aliciacfg_client-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".py")]
        archive.extractall(tmp_path / "installed")
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for library in LIBRARIES:
        spec = find_spec(library)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        (libraries / source.name).symlink_to(source)
    settings = tmp_path / "bell.json"
    settings.write_text('{"volume": 3}')
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(tmp_path / "installed"), str(libraries), str(settings)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["where"].startswith(str(tmp_path))
    assert found["settings"] == {"volume": 3}
    # What cffi compiled of PyNaCl shows as a module of its own.
    assert set(found["others"]) - {"_sodium"} == set(LIBRARIES)
    # Every module that is shipped is one that is used.
    shipped = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names}
    assert set(found["ours"]) == shipped


def test_importing_the_client_loads_nothing_of_the_daemon():
    """Where everything is installed, too."""
    program = "import json, sys, aliciacfg.client; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=30)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    heavy = (
        "aiohttp aiosqlite ruamel click jsonschema_rs jsonpatch structlog prometheus_client rich uvloop mqtt5 dotenv"
    )
    assert not loaded & {*heavy.split(), "sqlite3", "yaml"}
