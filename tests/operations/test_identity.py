"""``/whoami`` and ``/tokens``: who a caller is, and tokens without the command line."""

import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from aliciacfg.operations.table import BY_NAME
from builders import environment_file
from inprocess import CALLER, Core, core, listening

FILES: dict[str, object] = {
    "environments/base.yaml": environment_file({"bell": {}, "lamp": {}}),
    "environments/dev.yaml": "",
}
RULES = {"users": ["viewer"], "services": {"bell": {"read": {"allowed_services": ["viewer"]}}}}


@dataclass
class Home:
    """A home that serves HTTP."""

    made: Core
    url: str
    session: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        sent = headers if token is None else {**headers, "Authorization": f"Bearer {token}"}
        async with self.session.request(method, self.url + path, json=body, headers=sent) as response:
            return response.status, await response.json()

    async def local_token(self, name: str, role: str = "service") -> str:
        """A token as the command line makes it."""
        answer = await BY_NAME["token_create"].run(self.made.parts.service, CALLER, "", {"name": name, "role": role})
        return json.loads(answer.body)["token"]


@contextlib.asynccontextmanager
async def home(directory: Path, files: dict[str, object] = FILES) -> AsyncGenerator[Home, None]:
    async with core(directory, files) as made, listening(made) as url, aiohttp.ClientSession() as session:
        yield Home(made, url, session)


async def test_without_rules_everybody_may_do_everything(tmp_path: Path):
    """But for tokens, of which the first one is made on the command line."""
    async with home(tmp_path) as found:
        status, answer = await found.ask("GET", "/whoami")
        assert status == 200
        assert answer == {
            "status": "success", "request_id": None, "name": None, "role": None, "open": True, "proven": False,
            "private": True, "admin": True, "read": "all", "write": "all", "tokens": False, "token_id": None,
            "expires": None, "environment": "dev", "environments": [{"name": "dev", "protected": False}],
        }  # fmt: skip
        status, answer = await found.ask("POST", "/tokens", {"name": "first", "role": "admin"})
        assert (status, answer["code"]) == (403, "forbidden")
        assert "aliciacfg token create" in answer["message"]
        assert (await found.ask("GET", "/tokens"))[1]["tokens"] == []


async def test_a_caller_is_told_what_it_may_do(tmp_path: Path):
    """By its name and its role; without a token nothing; an invalid one is refused."""
    async with home(tmp_path, {**FILES, "environments/access.yaml": RULES}) as found:
        may = {}
        for name, role in (("viewer", "service"), ("viewer", "writer"), ("operator", "admin"), ("nobody", "service")):
            _, answer = await found.ask("GET", "/whoami", token=await found.local_token(name, role))
            may[name, role] = [answer[field] for field in ("name", "role", "read", "write", "admin", "tokens")]
        assert may == {
            ("viewer", "service"): ["viewer", "service", "some", "none", False, False],
            ("viewer", "writer"): ["viewer", "writer", "all", "all", False, False],
            ("operator", "admin"): ["operator", "admin", "all", "all", True, True],
            ("nobody", "service"): ["nobody", "service", "none", "none", False, False],
        }
        _, answer = await found.ask("GET", "/whoami")
        assert (answer["name"], answer["role"], answer["read"], answer["open"]) == (None, None, "none", False)
        assert answer["environments"] == []
        _, answer = await found.ask("GET", "/whoami", token=await found.local_token("viewer"))
        assert answer["environments"] == [{"name": "dev", "protected": False}]
        assert (await found.ask("GET", "/whoami", token="acfg_none"))[0] == 401


async def test_an_administrator_makes_and_revokes_tokens(tmp_path: Path):
    """The text is shown once; what was made is listed, works, and is in the audit log."""
    async with home(tmp_path) as found:
        admin = await found.local_token("operator", "admin")
        status, made = await found.ask(
            "POST", "/tokens", {"name": "dashboard", "role": "reader", "expires_in_seconds": 60}, token=admin
        )
        assert (status, made["name"], made["role"]) == (200, "dashboard", "reader")
        _, own = await found.ask("GET", "/whoami", token=made["token"])
        assert (own["token_id"], own["expires"]) == (made["token_id"], made["expires"])
        _, answer = await found.ask("GET", "/tokens", token=admin)
        assert [item["name"] for item in answer["tokens"]] == ["operator", "dashboard"]
        assert made["token"] not in str(answer)
        status, answer = await found.ask("POST", f"/tokens/{made['token_id']}/revoke", {}, token=admin)
        assert (status, answer["tokens"][0]["revoked"] is not None) == (200, True)
        assert (await found.ask("GET", "/whoami", token=made["token"]))[0] == 401
        assert (await found.ask("POST", "/tokens/000000000000/revoke", {}, token=admin))[0] == 404
        _, audit = await found.ask("GET", "/audit?who=operator&outcome=done", token=admin)
        done = [(entry["operation"], entry["where"]) for entry in audit["entries"]]
        assert done == [("token_revoke", "http 127.0.0.1"), ("token_create", "http 127.0.0.1")]


async def test_tokens_are_for_administrators(tmp_path: Path):
    """And a new one is not sent where others may read it: through a proxy, for example."""
    async with home(tmp_path) as found:
        admin, writer = await found.local_token("operator", "admin"), await found.local_token("operator", "writer")
        body = {"name": "dashboard"}
        for method, path in (("GET", "/tokens"), ("POST", "/tokens"), ("POST", "/tokens/000000000000/revoke")):
            given = body if path == "/tokens" and method == "POST" else None if method == "GET" else {}
            assert (await found.ask(method, path, given, token=writer))[0] == 403
            assert (await found.ask(method, path, given))[0] == 401
        status, answer = await found.ask("POST", "/tokens", body, token=admin, Forwarded="for=192.0.2.1")
        assert (status, answer["code"]) == (403, "forbidden")
        assert "HTTPS" in answer["message"]
        for seconds in (0, -1, 1e10, 1e308):
            assert (await found.ask("POST", "/tokens", {**body, "expires_in_seconds": seconds}, token=admin))[0] == 400
        proxied = await found.ask("GET", "/whoami", token=admin, Forwarded="for=192.0.2.1")
        assert (proxied[1]["private"], proxied[1]["tokens"]) == (False, False)
        assert len((await found.ask("GET", "/tokens", token=admin))[1]["tokens"]) == 2


async def test_differences_of_revisions_are_for_every_reader(tmp_path: Path):
    """Old and new values, secrets masked."""
    async with home(tmp_path, {**FILES, "environments/access.yaml": RULES}) as found:
        viewer = await found.local_token("viewer")
        await found.made.ask("patch", "bell", patch={"limits": {"x": 1}})
        await found.made.ask("patch", "bell", patch={"limits": {"x": 2}, "mqtt_config": {"password": "planted"}})
        status, answer = await found.ask("GET", "/config/compare/bell?rev1=2&rev2=3", token=viewer)
        assert status == 200
        assert answer["changed"]["/limits/x"] == {"env1": 1, "env2": 2}
        assert answer["secrets"] == ["/mqtt_config/password"]
        assert "planted" not in str(answer)
