"""Errors that no part of the daemon expects: they are told, and the daemon goes on."""

import os
from collections.abc import Callable
from pathlib import Path

from daemons import Daemon
from machine import wait_until

PLANTED = "planted-in-an-error"
# Imported by Python at its start: each of these raises an error at its first call.
FAULTS = f"""
from functools import wraps

from aliciacfg import daemon
from aliciacfg.access.audit_log import AuditLog
from aliciacfg.core.drift_checks import DriftChecks
from aliciacfg.mqtt.devices import DeviceRegistry
from aliciacfg.mqtt.health import HealthPublisher


def fail_first(owner, name):
    real, failed = getattr(owner, name), []

    @wraps(real)
    def call(*args, **kwargs):
        if failed:
            return real(*args, **kwargs)
        failed.append(True)
        raise ZeroDivisionError("{PLANTED}")

    setattr(owner, name, call)


fail_first(AuditLog, "run")
fail_first(DriftChecks, "check_instances_forever")
fail_first(DriftChecks, "compare_files")
fail_first(DriftChecks, "verify")
fail_first(DeviceRegistry, "follow")
fail_first(HealthPublisher, "publish_forever")
fail_first(daemon, "_reload")
"""
TASKS = {
    "audit log",
    "check of instances",
    "device registry",
    "file watcher",
    "publication of health",
    "verification of the store",
}


def test_an_unexpected_error_in_any_task_is_told_and_ends_nothing(make_daemon: Callable[..., Daemon], tmp_path: Path):
    """The log has each with its traceback, an alert has its type and no value; each task then does its work."""
    (tmp_path / "sitecustomize.py").write_text(FAULTS)
    daemon = make_daemon().keep_services("tts_service")
    daemon.environ["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    daemon.start()

    def told() -> dict[str, str]:
        alerts = daemon.http("GET", "/health").json["alerts"]
        return {name.partition(":")[2]: text for name, text in alerts.items() if name.startswith("internal:")}

    wait_until(lambda: told().keys() >= TASKS)
    assert all("ZeroDivisionError" in text and PLANTED not in text for text in told().values())
    daemon.hang_up("task_failed")
    wait_until(lambda: "reload at SIGHUP" in told())
    daemon.hang_up("files_loaded")
    failed = {entry["task"]: entry for entry in daemon.logged("task_failed")}
    assert failed.keys() == {*TASKS, "reload at SIGHUP"}
    assert all("Traceback" in entry["exception"] for entry in failed.values())
    dev = daemon.environments / "dev.yaml"
    dev.write_text(dev.read_text().replace("\ndefaults:\n", "\ndefaults:\n  note: loaded\n"))
    wait_until(lambda: daemon.config("tts_service")["config"].get("note") == "loaded")
    wait_until(lambda: daemon.logged("store_verified"))
    assert daemon.stop() == 0
    # The fixture takes a traceback in a log for a fault of the daemon.
    daemon.log.unlink()
