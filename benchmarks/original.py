"""The shape of the service that this project replaces: paho in a thread of its own, FastAPI over HTTP.

Runs on the versions that the original names (``requirements/original.in``), in an environment of their own.
Prints READY, with its port over HTTP, and runs until it is ended.

    original.py mqtt --port BROKER_PORT --topic PREFIX --document FILE
    original.py http --document FILE
"""

import argparse
import json
import socket
import threading
import time
import uuid
from pathlib import Path

import paho.mqtt.client as mqtt
import uvicorn
from fastapi import FastAPI, HTTPException

SERVICE = "voice_router"


def answer_mqtt(options: argparse.Namespace, config: object) -> None:
    """Answer in JSON envelopes at QoS 1, each made anew, from paho's own thread."""
    client = mqtt.Client(client_id=f"config_service_{uuid.uuid4().hex[:8]}", clean_session=True)

    def publish(topic: str, payload: object) -> None:
        envelope = {
            "message_id": str(uuid.uuid4()), "timestamp": time.time(), "source": "config_service",
            "destination": "broadcast", "message_type": "event", "priority": "normal", "ttl": 300, "payload": payload,
            "routing": {"hops": 0, "max_hops": 10},
        }  # fmt: skip
        client.publish(topic, json.dumps(envelope), qos=1)

    def on_message(_client, _userdata, message) -> None:
        request = json.loads(message.payload.decode("utf-8")).get("payload", {})
        requester = request.get("requester", "unknown")
        if request.get("service") != SERVICE:
            return
        publish(
            f"{options.topic}/{requester}/response",
            {
                "message_id": f"config_response_{SERVICE}_{int(time.time())}_{str(uuid.uuid4())[:8]}",
                "timestamp": time.time(), "source": "config_service", "destination": requester,
                "message_type": "configuration_response",
                "payload": {"service": SERVICE, "config": config, "environment": "production"},
            },
        )  # fmt: skip

    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe(f"{options.topic}/request")
    client.on_subscribe = lambda *_: print("READY", flush=True)
    client.connect("127.0.0.1", options.port, 60)
    client.loop_start()
    threading.Event().wait()


def answer_http(_options: argparse.Namespace, config: object) -> None:
    """Answer ``GET /config/{service_name}`` with a dict around the configuration."""
    app = FastAPI()
    configs = {SERVICE: config}

    @app.get("/config/{service_name}")
    async def get(service_name: str):
        if service_name not in configs:
            raise HTTPException(status_code=404)
        return {"service": service_name, "config": configs[service_name], "timestamp": time.time()}

    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    # Connections wait in the listener until uvicorn accepts them.
    print("READY", listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["mqtt", "http"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--topic", default="")
    parser.add_argument("--document", type=Path, required=True)
    options = parser.parse_args()
    config = json.loads(options.document.read_bytes())["config"]
    (answer_mqtt if options.kind == "mqtt" else answer_http)(options, config)


if __name__ == "__main__":
    main()
