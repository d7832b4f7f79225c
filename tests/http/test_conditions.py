"""Conditions of requests over HTTP: ``If-Match`` and ``If-None-Match`` (RFC 9110 §13)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from inprocess import core, eventually, listening

CONFIG: dict[str, Any] = {
    "mqtt_config": {"host": "h", "port": 1883, "username": "u", "password": "p"},
    "api_config": {"host": "h", "port": 8000},
    "settings": {"volume": 1},
}


async def test_a_race_that_is_lost_after_the_look_is_412_too(tmp_path: Path):
    """Both had the right ETag while another write was at work; the one that comes second is told 412, not 409."""
    files = {"environments/base.yaml": {"defaults": CONFIG, "services": {"bell": {}}}, "environments/dev.yaml": ""}
    async with core(tmp_path, files) as made, listening(made) as url, aiohttp.ClientSession() as session:

        async def patch(volume: int, **how: Any) -> int:
            body = {"settings": {"volume": volume}}
            async with session.patch(f"{url}/config/bell", json=body, **how) as response:
                assert json.loads(await response.read()).get("code", "conflict") == "conflict"
                return response.status

        async with session.get(f"{url}/config/bell") as response:
            current = {"If-Match": response.headers["ETag"]}
        by_header = [patch(7, headers=current), patch(8, headers=current)]
        by_field = [patch(9, params={"expected_revision": "1"})]
        planning = made.parts.commits._planning
        async with planning:
            asked = asyncio.gather(*by_header, *by_field)
            await eventually(lambda: len(planning._waiters or ()) == 3)
        statuses = await asked
    assert sorted(statuses[:2]) in ([200, 412], [412, 412])
    assert sorted(statuses) in ([200, 409, 412], [200, 412, 412])
