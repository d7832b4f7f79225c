"""A configuration in a JSON file, for tests of programs."""

from pathlib import Path

from aliciacfg import documents
from aliciacfg.client.errors import Unavailable
from aliciacfg.client.messages import Update
from aliciacfg.documents import JsonObject
from aliciacfg.errors import OperationError
from aliciacfg.file_errors import unreadable

_OF_DOCUMENTS = frozenset({"settings", "service_name", "mqtt_config", "api_config", "features", "limits"})


def update_from_file(path: Path, service: str, *, place: int) -> Update:
    """Return the configuration in a file, in the form of an update.

    Args:
        path: A configuration, or the answer to a ``get`` with it, or ``settings`` alone.
        service: The service.
        place: Its revision and place in the order.

    Raises:
        Unavailable: The file cannot be read, or holds no JSON object.
    """
    try:
        content = documents.decode_object(path.read_bytes())
    except OSError as error:
        raise Unavailable(unreadable(path, error)) from error
    except OperationError as error:
        raise Unavailable(f"{path}: {error}") from error
    config = _config(content)
    environment, version = config.get("environment"), config.get("version")
    return Update(
        service=service,
        environment=environment if isinstance(environment, str) else "file",
        version=version if isinstance(version, str) else "1.0.0",
        revision=place,
        epoch=1,
        sequence=place,
        checksum="",
        config=config,
    )


def _config(content: JsonObject) -> JsonObject:
    answered = content.get("config")
    if isinstance(answered, dict) and "revision" in content:
        return answered
    return content if content.keys() & _OF_DOCUMENTS else {"settings": content}
