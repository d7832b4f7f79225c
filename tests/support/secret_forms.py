"""What a secret looks like that somebody passes on without meaning to."""

import base64
import hashlib
import json


def forms(secret: str) -> dict[str, bytes]:
    """The forms of a secret: in the clear, encoded, or as a digest that anyone can compute to test a guess."""
    raw = secret.encode()
    found = {
        "open": raw,
        "hex": raw.hex().encode(),
        "url": secret.replace("-", "%2D").encode(),
        "utf-16": secret.encode("utf-16-le"),
        "reversed": raw[::-1],
    }
    for offset in range(3):
        # What of it does not depend on what stands before and after.
        packed = base64.b64encode(b"x" * offset + raw)
        found[f"base64 at {offset}"] = packed[-(-offset * 4 // 3) + 1 : -4]
        found[f"url-safe base64 at {offset}"] = found[f"base64 at {offset}"].translate(bytes.maketrans(b"+/", b"-_"))
    for text in (raw, json.dumps(secret).encode()):
        for name in ("sha256", "sha1", "md5"):
            digest = hashlib.new(name, text)
            found[f"{name} of {text[:1]!r}"] = digest.hexdigest().encode()
    return found
