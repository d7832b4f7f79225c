"""The files for Prometheus, checked by its own ``promtool``; and a token that reads the metrics and nothing else."""

import asyncio
import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from daemons import Daemon
from inprocess import core
from repository import ROOT

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed; Debian has it in the package prometheus"
)


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_rules_and_settings_are_valid(tmp_path: Path):
    """The settings with the rules beside them, as the guide has them installed."""
    shutil.copytree(ROOT / "deploy" / "prometheus", tmp_path / "prometheus")
    settings = tmp_path / "prometheus" / "prometheus.yml"
    token = tmp_path / "token"
    token.write_text("aliciacfg-token")
    settings.write_text(settings.read_text().replace("/etc/prometheus/aliciacfg.token", str(token)))
    assert "16 rules found" in promtool("check", "config", str(settings))


@needs_promtool
def test_the_rules_fire_when_they_should():
    """On the series of ``tests/data/alert-rules.test.yml``, and not when all is well."""
    assert "SUCCESS" in promtool("test", "rules", "tests/data/alert-rules.test.yml")


@needs_promtool
async def test_the_metrics_meet_the_conventions(tmp_path: Path):
    """``promtool check metrics`` has nothing to say against names, types and help."""
    async with core(tmp_path, {"environments/dev.yaml": {"services": {"bell": {}}}}) as made:
        made.parts.service.health.metrics.meter("get", "mqtt").answered(0.1)
        text, _ = await made.parts.service.health.exposition("")
    run = functools.partial(subprocess.run, input=text, capture_output=True, timeout=50, check=False)
    done = await asyncio.to_thread(run, ["promtool", "check", "metrics"])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_token_for_the_metrics_reads_nothing_else(make_daemon: Callable[..., Daemon]):
    """Role ``metrics``: /metrics, and no configuration; the token of a service does not read the metrics."""
    daemon = make_daemon().keep_services("voice_router").start()
    for role, status in (("metrics", 200), ("service", 403)):
        token = daemon.local("token_create", {"name": "prometheus", "role": role})["token"]
        bearer = {"Authorization": f"Bearer {token}"}
        assert daemon.http("GET", "/metrics", headers=bearer).status == status
        assert daemon.http("GET", "/config/voice_router", headers=bearer).status == 403
        assert daemon.http("GET", "/drift", headers=bearer).status == 403
    assert daemon.http("GET", "/metrics").status == 401
