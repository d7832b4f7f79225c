"""Every answer is as docs/openapi.json says; schemathesis generates the requests."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from api_documents import OPENAPI, closed
from daemons import Daemon

# What the document promises about each answer, and that what it forbids is refused.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
# A condition that does not hold may be told before what else is wrong.
SETTINGS = """\
[checks]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 503]
"""


def run(
    daemon: Daemon, directory: Path, *options: str, phases: str, examples: int, seconds: float, least: int = 1
) -> None:
    """Ask everything within some seconds, each operation a few times at least; fail with what schemathesis says."""
    document = closed(OPENAPI)
    get = document["paths"]["/config/{service}"]["get"]
    # It does not end.
    del document["paths"]["/events"]
    # It does what it says: it waits.
    get["parameters"] = [parameter for parameter in get["parameters"] if parameter["name"] != "wait_seconds"]
    file = directory / "openapi.json"
    file.write_text(json.dumps(document))
    (directory / "schemathesis.toml").write_text(SETTINGS)
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", daemon.url,
            "--checks", ",".join(CHECKS), "--phases", phases, "--max-examples", str(examples),
            "--no-color", "--warnings", "off", "--continue-on-failure", *options,
        ],
        cwd=directory, capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    operations = sum(len(item) for item in document["paths"].values())
    assert re.search(rf"Tested: {operations}\b", done.stdout), done.stdout[-2_000:]
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases, done.stdout[-2_000:]
    assert int(cases[1]) >= least * operations, done.stdout[-2_000:]
    assert daemon.http("GET", "/health").status == 200


@pytest.mark.timeout(420)
def test_no_answer_is_undeclared(make_daemon: Callable[..., Daemon], tmp_path: Path):
    """Over all operations, valid and invalid requests: status, content type, headers and body are as documented."""
    run(make_daemon(asyncio_debug=False).start(), tmp_path, phases="examples,fuzzing", examples=1, seconds=400)


@pytest.mark.soak
def test_no_answer_is_undeclared_for_long(make_daemon: Callable[..., Daemon], tmp_path: Path):
    """The same with more requests for ten minutes, which the operations share evenly: a slow machine sends fewer."""
    run(
        make_daemon(asyncio_debug=False).start(),
        tmp_path,
        "--max-time",
        "600",
        phases="examples,coverage,fuzzing",
        examples=1000,
        seconds=900,
        least=50,
    )
