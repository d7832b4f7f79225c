"""A well-behaved client: it reads its configuration now and then, and notes whether and how soon it is answered."""

import contextlib
import http.client
import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import wire

PATIENCE_SECONDS = 10.0
PAUSE_SECONDS = 0.1
SERVICE = "voice_router"


@dataclass
class Experience:
    """What a client met with: how often it asked, how often it had the configuration, how long it waited at worst."""

    asked: int = 0
    answered: int = 0
    worst_seconds: float = 0.0
    refusals: list[str] = field(default_factory=list)

    def shown(self) -> str:
        if not self.asked:
            return ""
        worst = "" if math.isnan(self.worst_seconds) else f", {self.worst_seconds * 1000:,.0f} ms"
        return f"{self.answered}/{self.asked}{worst}"


class Neighbour:
    """Asks over HTTP, each time on a new connection, and over MQTT; ``stop`` ends it.

    ``token`` is for a daemon with access rules, where a client over MQTT would need an access list at the broker: then
    only HTTP is asked.
    """

    def __init__(self, *, http_port: int, mqtt_port: int, token: str, tls: bool) -> None:
        self.http, self.mqtt = Experience(), Experience()
        self._http_port, self._mqtt_port, self._token, self._tls = http_port, mqtt_port, token, tls
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=(self.http, self._ask_http))]
        if not token:
            self._bus = _Bus(mqtt_port)
            self._threads.append(threading.Thread(target=self._repeat, args=(self.mqtt, self._bus.ask)))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, experience: Experience, ask: Callable[[], str]) -> None:
        while not self._stopping.wait(PAUSE_SECONDS):
            begun = time.monotonic()
            try:
                refusal = ask()
            except (OSError, http.client.HTTPException, ValueError) as error:
                refusal = repr(error)
            experience.asked += 1
            experience.worst_seconds = max(experience.worst_seconds, time.monotonic() - begun)
            if refusal:
                experience.refusals.append(refusal)
            else:
                experience.answered += 1

    def _ask_http(self) -> str:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        place = ("127.0.0.1", self._http_port)
        if self._tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(*place, timeout=PATIENCE_SECONDS, context=context)
        else:
            connection = http.client.HTTPConnection(*place, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", f"/config/{SERVICE}", headers=headers)
            answer = connection.getresponse()
            answer.read()
            return "" if answer.status == 200 else str(answer.status)


class _Bus:
    """One MQTT connection that asks for the configuration, one request after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._number = 0
        self._request = wire.Request(f"alicia/config/get/{SERVICE}", "alicia/reply/neighbour", 1)
        self._socket.sendall(wire.connect("neighbour") + wire.subscribe(1, "alicia/reply/neighbour", 1))

    def ask(self) -> str:
        self._number += 1
        self._socket.sendall(self._request.encode(self._number))
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            for answer in self._answers():
                number, body = answer
                if number == self._number:
                    found = json.loads(body)
                    return "" if found["status"] == "success" else str(found["code"])
            self._socket.settimeout(max(0.01, end - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionError("the broker closed the connection")
                self._buffer += data
        return "none"

    def _answers(self) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        used = 0
        for first, start, end in wire.packets(self._buffer):
            used = end
            if first & 0xF0 == wire.PUBLISH:
                message = wire.publication(self._buffer, first, start)
                if message.packet_id:
                    self._socket.sendall(wire.puback(message.packet_id))
                found.append((int.from_bytes(message.correlation, "big"), bytes(self._buffer[message.payload : end])))
        del self._buffer[:used]
        return found
