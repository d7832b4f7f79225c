"""Callers that prove who they are: with a token over HTTP, with a password at the broker."""

from collections.abc import Callable
from typing import Any

from commands import aliciacfg
from daemons import Daemon, HttpAnswer
from mqtt_clients import Client

# One administrator, and a service that another one may write.
RULES = "services:\n  tts_service:\n    write: {allowed_services: [voice_router]}\nadmins: [operator]\n"


def token(daemon: Daemon, name: str, *, role: str = "service") -> str:
    """Create a token through the socket of a running daemon, without a command's process."""
    return daemon.local("token_create", {"name": name, "role": role})["token"]


def token_by_command(daemon: Daemon, name: str, *arguments: str) -> str:
    """Create a token with ``aliciacfg token create``, whether a daemon runs or not."""
    done = aliciacfg(daemon, "token", "create", name, "--yes", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bearing(daemon: Daemon, text: str) -> Callable[..., HttpAnswer]:
    """Requests with a token."""

    def ask(method: str, path: str, body: object = None) -> HttpAnswer:
        return daemon.http(method, path, body, {"Authorization": f"Bearer {text}"})

    return ask


async def default_answer(mqtt: Client, topic: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Return the answer on the default topic, which the request does not name."""
    reply = f"alicia/reply/{topic}"
    await mqtt.subscribe(reply)
    await mqtt.publish(f"alicia/config/{topic}", payload)
    return (await mqtt.until(reply)).json


def own_password(daemon: Daemon, service: str) -> str:
    """From the file that ``aliciacfg setup`` made."""
    lines = iter((daemon.environments / "dev-secrets.yaml").read_text().splitlines())
    assert f"  {service}:" in lines
    return next(line for line in lines if "password:" in line).partition(": ")[2].strip('"')
