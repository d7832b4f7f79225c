"""Gets over MQTT and HTTP, beside the limit, what the daemon replaces, and the peers."""

import peers
from report import DAEMON, Goal, Row
from rounds import Rounds
from scene import BARE_TOPIC, GET_TOPIC, ORIGINAL_TOPIC, READ, Scene, entity_tag

LIMIT = "bare MQTT"
ORIGINAL_MQTT = "original (paho)"
BARE_AIOHTTP = "bare aiohttp"
FASTAPI = "original (FastAPI)"
PLAIN_GET = "a plain get"
_CONNECTIONS = 32
# The share of the limit that a get over MQTT has to reach, by QoS and requests outstanding.
_OF_LIMIT = {(0, 1): 0.8, (0, 32): 0.8, (0, 256): 0.8, (1, 1): 0.9, (1, 32): 0.9, (1, 256): 0.95}
_OF_ORIGINAL = {0: 1.5, 1: 1.25}
_MAX_CPU_US = 20.0
_MAX_CPU_OF_LIMIT = 1.4
_MAX_CPU_OF_GET = 1.3


def add_mqtt(rounds: Rounds, scene: Scene) -> None:
    """Gets over MQTT at both QoS, with 1, 32 and 256 requests under way."""
    rounds.section(
        "Get over MQTT",
        "One client, with so many requests outstanding. *bare MQTT* is an asyncio.Protocol without a library that "
        "gives the very same answer: the limit of Python. *original (paho)* is the service that this one replaces.",
    )
    for (qos, outstanding), share in _OF_LIMIT.items():
        goals = [Goal(share, beside=LIMIT), Goal(_OF_ORIGINAL[qos], beside=ORIGINAL_MQTT)]
        if qos == 1:
            goals.append(Goal(_MAX_CPU_OF_LIMIT, "cpu_us", LIMIT, at_least=False))
        elif outstanding > 1:
            goals.append(Goal(_MAX_CPU_US, "cpu_us", at_least=False))
        row = rounds.row(f"QoS {qos}, {outstanding} outstanding", *goals)
        common = {"port": scene.mqtt_port, "qos": qos, "outstanding": outstanding}
        document = scene.mqtt_document
        for who, pid, topic in (
            (DAEMON, scene.home.pid, GET_TOPIC),
            (LIMIT, scene.responders["bare MQTT"].pid, BARE_TOPIC),
        ):
            rounds.add_load([(row, who)], "mqtt", pid=pid, topic=topic, document=document, **common)
        if original := scene.responders.get("original mqtt"):
            rounds.add_load([(row, ORIGINAL_MQTT)], "original", pid=original.pid, topic=ORIGINAL_TOPIC, **common)


def add_older_mqtt(rounds: Rounds, scene: Scene) -> None:
    """The same where the broker speaks nothing newer than MQTT 3.1.1, beside the original, which always spoke that."""
    rounds.section(
        "Get over MQTT 3.1.1",
        "A daemon that connects with MQTT 3.1.1, over aiomqtt, at a broker of its own. The original answers at QoS 1 "
        "whatever the request has.",
    )
    for qos, outstanding in _OF_LIMIT:
        row = rounds.row(f"QoS {qos}, {outstanding} outstanding", Goal(1.0, beside=ORIGINAL_MQTT))
        common = {"qos": qos, "outstanding": outstanding}
        home = scene.older
        rounds.add_load([(row, DAEMON)], "plain", pid=home.pid, port=scene.older_port, topic=GET_TOPIC, **common)
        if original := scene.responders.get("original mqtt"):
            options = {"port": scene.mqtt_port, "topic": ORIGINAL_TOPIC, **common}
            rounds.add_load([(row, ORIGINAL_MQTT)], "original", pid=original.pid, **options)


def add_http(rounds: Rounds, scene: Scene) -> None:
    """Plain gets beside all others, and the other reads beside the plain get."""
    rounds.section(
        "Get over HTTP",
        f"{_CONNECTIONS} connections, each with one request under way. *bare aiohttp* has one route and a body "
        "encoded beforehand, on uvloop. etcd, NATS and Redis hold a document of about the same size; etcd over gRPC "
        "and NATS have one connection with as many requests under way. The reads below the first are compared with it.",
    )
    plain = rounds.row("get", Goal(0.9, beside=BARE_AIOHTTP))
    different = rounds.row("get, each with another header")
    cheap = Goal(_MAX_CPU_OF_GET, "cpu_us", PLAIN_GET, at_least=False)
    unchanged = rounds.row("get that is answered 304", Goal(1.0, beside=PLAIN_GET), cheap)
    token = rounds.row("get with a token", cheap)
    pointer = rounds.row("get with ?pointer", cheap)
    explain = rounds.row("explain")
    extra = (unchanged, token, pointer, explain)
    _add_http(rounds, scene, [(plain, DAEMON), *((row, PLAIN_GET) for row in extra)], f"/config/{READ}", same=True)
    for who, name in ((BARE_AIOHTTP, "bare aiohttp"), (FASTAPI, "original http")):
        if found := scene.responders.get(name):
            options = {"document": scene.http_document} if name == "bare aiohttp" else {}
            path = f"/config/{READ}"
            rounds.add_load(
                [(plain, who)], "http", pid=found.pid, port=found.port, path=path, outstanding=_CONNECTIONS, **options
            )
    _add_different(rounds, scene, different)
    _add_peers(rounds, scene, plain)
    etag = entity_tag(scene.home)
    _add_http(rounds, scene, [(unchanged, DAEMON)], f"/config/{READ}", headers=f"If-None-Match: {etag}", statuses="304")
    options = {"path": f"/config/{READ}", "headers": f"Authorization: Bearer {scene.token}"}
    home = scene.guarded
    rounds.add_load([(token, DAEMON)], "http", pid=home.pid, port=home.http_port, outstanding=_CONNECTIONS, **options)
    _add_http(rounds, scene, [(pointer, DAEMON)], f"/config/{READ}?pointer=/limits")
    _add_http(rounds, scene, [(explain, DAEMON)], f"/config/{READ}/explain")


def _add_http(
    rounds: Rounds, scene: Scene, into: list[tuple[Row, str]], path: str, *, same: bool = False, **options: object
) -> None:
    if same:
        options["document"] = scene.http_document
    home = scene.home
    rounds.add_load(into, "http", pid=home.pid, port=home.http_port, path=path, outstanding=_CONNECTIONS, **options)


def _add_different(rounds: Rounds, scene: Scene, row: Row) -> None:
    """Gets that are not the same bytes, so that aiohttp parses each."""
    bare = scene.responders["bare aiohttp"]
    for who, pid, port in ((DAEMON, scene.home.pid, scene.home.http_port), (BARE_AIOHTTP, bare.pid, bare.port)):
        options = {"path": f"/config/{READ}", "document": scene.http_document, "different": True}
        rounds.add_load([(row, who)], "http", pid=pid, port=port, outstanding=_CONNECTIONS, **options)


def _add_peers(rounds: Rounds, scene: Scene, row: Row) -> None:
    document = scene.config
    if peer := scene.peers.get("etcd"):
        body = scene.scratch / "etcd-range.json"
        body.write_bytes(peers.etcd_range())
        options = {"path": "/v3/kv/range", "method": "POST", "body": body, "outstanding": _CONNECTIONS}
        rounds.add_load([(row, "etcd, JSON")], "http", pid=peer.pid, port=peer.port, **options)
        if peers.found("h2load"):
            add_grpc(rounds, scene, [row], "Range", peers.grpc_range(), streams=_CONNECTIONS)
    if peer := scene.peers.get("nats-server"):
        options = {"port": peer.port, "document": document, "outstanding": _CONNECTIONS}
        rounds.add_load([(row, "NATS KV")], "nats", pid=peer.pid, **options)
    if peer := scene.peers.get("redis-server"):
        options = {"port": peer.port, "document": document, "outstanding": _CONNECTIONS}
        rounds.add_load([(row, "Redis")], "redis", pid=peer.pid, **options)


def add_grpc(rounds: Rounds, scene: Scene, rows: list[Row], method: str, message: bytes, *, streams: int) -> None:
    """Calls of etcd over gRPC; the peer is there and h2load is installed."""
    peer = scene.peers["etcd"]

    def job() -> None:
        figures = peers.h2load(
            peer, method, message, streams=streams, seconds=rounds.effort.seconds, scratch=scene.scratch
        )
        for row in rows:
            row.runs["etcd, gRPC"].append(figures)

    rounds.jobs.append(job)
