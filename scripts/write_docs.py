"""Write the API documents: record the answers of a real daemon, then generate both from the operations table."""

import asyncio
import sys
import tempfile
from pathlib import Path

from aliciacfg.http import openapi
from aliciacfg.mqtt import asyncapi

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Write the recorded examples beside the modules that use them, and the documents."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import recording  # noqa: PLC0415 - the tests are no package

    with tempfile.TemporaryDirectory() as directory:
        over_http, over_mqtt = asyncio.run(recording.record(Path(directory)))
    package = ROOT / "src" / "aliciacfg"
    (package / "http" / openapi.EXAMPLES).write_bytes(recording.encoded(over_http))
    (package / "mqtt" / asyncapi.EXAMPLES).write_bytes(recording.encoded(over_mqtt))
    for name, content in recording.documents().items():
        (ROOT / "docs" / name).write_bytes(content)


if __name__ == "__main__":
    main()
