"""Places and names in this repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.stem for path in (ROOT / "schemas").glob("*.yaml"))
