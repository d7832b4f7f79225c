"""N subscribers of one topic in one process, on raw sockets and epoll (Linux).

    subscribers.py mqtt|nats|redis --port PORT --topic TOPIC --count N

Prints READY when all have subscribed, then a line of JSON for each message that all have: when the first, the middle
and the last of them had it, in seconds of time.perf_counter, which is the same clock in all processes of a machine.
"""

import argparse
import json
import select
import socket
from collections.abc import Callable
from time import perf_counter as clock

import wire
from clients import redis_command

_READ_BYTES = 65536
# Of a subscription: do not send the retained message (MQTT 5, §3.8.3.1).
_NEW_ONLY = 0x20


def mqtt(number: int, topic: str) -> list[bytes]:
    return [wire.connect(f"subscriber-{number}"), wire.subscribe(1, topic, _NEW_ONLY)]


def nats(_number: int, topic: str) -> list[bytes]:
    return [b"", f'CONNECT {{"verbose":false}}\r\nSUB {topic.replace("/", ".")} 1\r\nPING\r\n'.encode()]


def redis(_number: int, topic: str) -> list[bytes]:
    return [redis_command(b"SUBSCRIBE", topic.encode())]


def count_mqtt(buffer: bytearray) -> int:
    """Remove whole packets; return how many publications were among them."""
    used = found = 0
    for first, _, end in wire.packets(buffer):
        used = end
        found += first & 0xF0 == wire.PUBLISH
    del buffer[:used]
    return found


def count_lines(head: bytes, lines: int) -> Callable[[bytearray], int]:
    """Of text protocols: a message begins with ``head`` and has so many lines; the payload has no line end."""

    def count(buffer: bytearray) -> int:
        found = 0
        while (at := buffer.find(head)) >= 0:
            end = at
            for _ in range(lines):
                end = buffer.find(b"\r\n", end) + 2
                if end == 1:
                    return found
            del buffer[:end]
            found += 1
        return found

    return count


KINDS = {
    "mqtt": (mqtt, count_mqtt),
    "nats": (nats, count_lines(b"MSG ", 2)),
    "redis": (redis, count_lines(b"*3\r\n$7\r\nmessage\r\n", 7)),
}


def subscribe(kind: str, port: int, topic: str, count: int) -> dict[int, socket.socket]:
    hello, _ = KINDS[kind]
    found: dict[int, socket.socket] = {}
    for number in range(count):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        for message in hello(number, topic):
            connection.sendall(message)
            connection.recv(_READ_BYTES)
        connection.setblocking(False)
        found[connection.fileno()] = connection
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    connections = subscribe(options.kind, options.port, options.topic, options.count)
    _, messages = KINDS[options.kind]
    buffers = {number: bytearray() for number in connections}
    poll = select.epoll()
    for number in connections:
        poll.register(number, select.EPOLLIN)
    print("READY", flush=True)
    times: list[float] = []
    while True:
        for number, _ in poll.poll():
            data = connections[number].recv(_READ_BYTES)
            if not data:
                raise SystemExit("the server closed a connection")
            if data.endswith(b"PING\r\n"):
                connections[number].send(b"PONG\r\n")
            buffers[number] += data
            times += [clock()] * messages(buffers[number])
        if len(times) >= options.count:
            reached, times = times[: options.count], times[options.count :]
            print(
                json.dumps({"first": reached[0], "middle": reached[len(reached) // 2], "last": reached[-1]}), flush=True
            )


if __name__ == "__main__":
    main()
