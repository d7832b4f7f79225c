"""``aliciacfg secret``: one secret set, and all that an environment lacks, with and without a daemon."""

import json
import re
from collections.abc import Callable
from typing import Any

from commands import aliciacfg, typed
from daemons import Daemon

SECRET = "planted-by-hand-77aa"
KEY = "/settings/grok_api_key"


def test_prod_gets_all_it_lacks_before_it_was_ever_valid(make_daemon: Callable[..., Daemon]):
    """Without a daemon too, whose key is made then: passwords are made, a provider's key is named and set."""
    home = make_daemon()
    trial = json.loads(aliciacfg(home, "secret", "generate", "prod", "--dry-run").stdout)
    assert len(trial["made"]) == 22
    assert not (home.environments / "prod-secrets.yaml").exists()
    made = aliciacfg(home, "secret", "generate", "prod")
    assert "made the daemon's first key" in made.stderr
    assert json.loads(made.stdout)["needed"] == [
        {"service": "ai_service", "pointer": KEY, "reason": "is issued by the provider of the service"}
    ]
    path = home.environments / "prod-secrets.yaml"
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(re.findall(r'password: "sealed:v1:', text)) == 22
    assert json.loads(aliciacfg(home, "check", "-e", "prod").stdout)["files"]["valid"] == 21
    done = aliciacfg(home, "secret", "set", "ai_service", KEY, "-e", "prod", stdin=f"{SECRET}\n")
    assert (done.returncode, json.loads(done.stdout)["loaded"]) == (0, False)
    again = json.loads(aliciacfg(home, "secret", "generate", "prod").stdout)
    assert (again["made"], again["needed"]) == ([], [])
    assert path.read_text().startswith(text[: text.index("  ai_service")])
    home.start()
    assert home.http("POST", "/environments/prod/activate").status == 200
    assert home.config("ai_service")["config"]["settings"]["grok_api_key"] == "***"
    assert SECRET not in path.read_text() + done.stdout + home.log.read_text()


def test_what_22_services_lack_is_said_once_with_one_remedy(make_daemon: Callable[..., Daemon]):
    """By activate, environments and diff; a password that can be made is not to be set by hand."""
    daemon = make_daemon()
    (daemon.environments / "prod-secrets.yaml").unlink(missing_ok=True)
    daemon.start()
    tried = aliciacfg(daemon, "-o", "table", "activate", "prod", "--dry-run")
    assert tried.returncode == 4
    assert tried.stderr.count("/mqtt_config/password") == 1, tried.stderr
    assert "  22 services lack /mqtt_config/password\n" in tried.stderr
    assert tried.stderr.count("aliciacfg secret generate prod") == 1
    for arguments in (("environments",), ("diff", "voice_router", "dev", "prod")):
        told = aliciacfg(daemon, "-o", "table", *arguments).stdout
        assert "Correct it with: aliciacfg secret generate prod" in told, told
        assert "/mqtt_config/password -e prod" not in told, told


def test_a_running_daemon_has_the_secret_when_the_command_ends(make_daemon: Callable[..., Daemon]):
    """From a file, typed without being seen, or as a change at run time; what is not valid is not written."""
    daemon = make_daemon().keep_services("ha_bridge", "security_gateway").start()
    typed_in = typed(daemon, "secret", "set", "ha_bridge", "/settings/ha_token", keys=f"{SECRET}\n{SECRET}\n")
    assert "the running daemon has loaded the file" in typed_in
    assert SECRET not in typed_in
    history = daemon.http("GET", "/config/ha_bridge/history").json["revisions"]
    assert history[0]["changed"] == ["/settings/ha_token"]
    written = (daemon.environments / "dev-secrets.yaml").read_text()
    for pointer, value, code, words in (
        ("/settings/jwt_secret", "short", 4, "expected at least 32 characters"),
        ("/settings/log_level", "x", 4, "is not a secret"),
        ("/settings", "x", 4, "is not a secret"),
        ("settings", "x", 4, "does not begin with '/'"),
        ("/settings/jwt_secret", "***", 2, "stands for a secret"),
        ("/settings/jwt_secret", "sealed: 0123", 2, "damaged sealed value"),
        ("/settings/jwt_secret", "sealed:v1:0123456789abcdef:AAAA", 4, "which this daemon does not have"),
        ("/settings/jwt_secret", "", 4, "standard input is empty"),
    ):
        refused = aliciacfg(daemon, "secret", "set", "security_gateway", pointer, stdin=value)
        assert (refused.returncode, words in refused.stderr) == (code, True), refused.stderr
    unknown = aliciacfg(daemon, "secret", "set", "voice_router", "/settings/x_token", stdin="x")
    assert (unknown.returncode, "aliciacfg service add" in unknown.stderr) == (3, True)
    assert (daemon.environments / "dev-secrets.yaml").read_text() == written
    pins = {"XDG_CONFIG_HOME": str(daemon.directory / "config")}
    arguments = ("secret", "set", "ha_bridge", "/settings/ha_token", "--overlay", "-m", "a new one")
    run_time = aliciacfg(daemon, *arguments, stdin="another", http=True, environ=pins)
    assert json.loads(run_time.stdout)["changed"] == ["/settings/ha_token"], run_time.stderr
    assert (daemon.environments / "dev-secrets.yaml").read_text() == written
    hidden = aliciacfg(daemon, "secret", "set", "ha_bridge", "/settings/ha_token", stdin="in-the-file")
    shadowed = hidden.stderr.splitlines()[-1]
    assert shadowed.startswith("warning: /settings/ha_token: shadowed by overlay, revision "), hidden.stderr
    file = daemon.directory / "bridge.json"
    file.write_text('{"ha_token": "from-the-program"}')
    taken = aliciacfg(daemon, "import", str(file), "--service", "ha_bridge", "-e", "dev", "--replace")
    assert taken.stderr.splitlines()[-1] == shadowed
    patch = json.dumps({"settings": {"jwt_secret": SECRET * 2, "log_level": "DEBUG"}})
    warned = aliciacfg(daemon, "patch", "security_gateway", patch).stderr
    assert warned.startswith("warning: /settings/jwt_secret: went over the bus in plain text; "), warned
    assert aliciacfg(daemon, "patch", "security_gateway", patch, http=True).stderr == ""


def test_on_a_terminal_what_is_needed_is_asked_for(make_daemon: Callable[..., Daemon]):
    """Adding a service: its name, a port, settings, a schema; a key that its schema requires is typed unseen."""
    home = make_daemon().keep_services("voice_router")
    lines = ("lamp", "8123", "room=hall", "token=zzz", "watts=5", "", "")
    asked = typed(home, "service", "add", keys="".join(f"{line}\n" for line in lines))
    assert "token is a secret by its name; set it afterwards" in asked
    assert 'patch lamp \'{"settings": {"room": "VALUE"}}\'' in asked
    assert "watts: 5" in (home.environments / "base.yaml").read_text()
    assert "lamp to environments/base.yaml" in asked
    assert "schemas/lamp.yaml describes its settings" in asked
    assert "in environments/prod-secrets.yaml, environments/staging-secrets.yaml" in " ".join(asked.split())
    required = "properties: {settings: {required: [api_key], properties: {api_key: {type: string}}}}\n"
    (home.directory / "schemas" / "fan.yaml").write_text(required)
    keys = f"fan\n\n\n{SECRET}\n{SECRET}\n" + f"{SECRET}\n{SECRET}\n" * 2
    given = typed(home, "service", "add", keys=keys)
    assert "fan to environments/base.yaml" in given
    assert SECRET not in given
    files = json.loads(aliciacfg(home, "check", "-e", "dev").stdout)["files"]
    assert (files["valid"], files["problems"]) == (3, [])


def test_a_new_required_secret_is_set_one_environment_after_the_other(make_daemon: Callable[..., Daemon]):
    """In any order: the daemon takes the schema when none lacks it, and until then each command says who does."""
    daemon = make_daemon().keep_services("voice_router")
    for name in ("staging", "prod"):
        aliciacfg(daemon, "secret", "generate", name)
    daemon.start()
    schema = daemon.directory / "schemas" / "voice_router.yaml"
    schema.write_text("properties: {settings: {required: [hub_token], properties: {hub_token: {type: string}}}}\n")
    place = "/settings/hub_token"
    told: dict[str, Any] = {}
    for done, name in enumerate(("prod", "dev", "staging")):
        said = aliciacfg(daemon, "secret", "set", "voice_router", place, "-e", name, stdin=f"{SECRET}\n")
        assert said.returncode == 0, said.stderr
        told = json.loads(said.stdout)
        assert (told["loaded"], len(told["waits_for"])) == (done == 2, 2 - done)
    assert told["lacking_in"] == []
    assert daemon.config("voice_router")["config"]["settings"]["hub_token"] == "***"
