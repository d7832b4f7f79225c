"""Answers that are refusals, in the envelope of the request."""

import msgspec

from aliciacfg.api.encoding import encode_failure
from aliciacfg.errors import OperationError, TooLarge
from aliciacfg.mqtt import envelope
from aliciacfg.mqtt.messages import Reply


def refuse(reply: Reply, error: OperationError) -> Reply:
    """Return another answer to the same request, which is refused."""
    body = encode_failure(error, reply.request_id)
    return msgspec.structs.replace(
        reply,
        payload=envelope.wrap(body, kind="response", destination=reply.destination, depth=reply.depth),
        success=False,
    )


def too_large(reply: Reply, *, size: int, limit: int) -> Reply:
    """Return the answer in place of one that is larger than the broker takes.

    Args:
        reply: The answer that cannot be sent.
        size: Of its packet, in bytes.
        limit: The largest packet that can be sent.
    """
    what = "The request was carried out, but its answer" if reply.success else "The request was refused; the answer"
    return refuse(
        reply,
        TooLarge(
            f"{what} would be an MQTT packet of {size} bytes; at most {limit} can be sent. Ask for less, ask over "
            "HTTP, or have the limits of the broker and of ALICIACFG_MAX_PACKET_BYTES raised."
        ),
    )
