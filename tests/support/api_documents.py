"""The OpenAPI document, as it is written and in a stricter form."""

import json
from typing import Any

from repository import ROOT

OPENAPI = json.loads((ROOT / "docs" / "openapi.json").read_text())


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with components that allow nothing beyond what they describe, so that an undeclared member shows."""
    copy = json.loads(json.dumps(document))
    for schema in copy["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return copy
