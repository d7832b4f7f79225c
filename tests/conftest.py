"""Fixtures: a real broker, a real database server, a real daemon, real files.

Only tests in end_to_end/ and faults/ start processes. The database server is one for all tests of a run, or of one of
its processes, so that tests of the store may use it anywhere.
"""

import asyncio
import contextlib
import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import types
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import pytest_asyncio
import structlog
from _pytest.pathlib import import_path
from _pytest.runner import runtestprotocol
from hypothesis.internal.constants_ast import constants_from_module

import forking
from brokers import Broker
from certificates import Authority
from daemons import DATABASES, Daemon, serving, tracebacks
from postgres import Postgres
from repository import ROOT, SERVICES
from soak import MANY, SOME

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from browser import Profile, Visit
    from console_browser import Console

WITH_PROCESSES = [Path(__file__).parent / name for name in ("end_to_end", "faults")]
STARTS_A_PROCESS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}
_processes = {"allowed": True}


def _refuse_processes(event: str, _arguments: tuple[object, ...]) -> None:
    if event in STARTS_A_PROCESS and not _processes["allowed"]:
        raise AssertionError(f"{event}: a test that starts a process belongs in tests/end_to_end or tests/faults")


sys.addaudithook(_refuse_processes)

# A file system in memory, and what it has to have free for the files of all tests.
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 2 * 1024**3


def _files_in_memory() -> None:
    """Put the files of tests, and of the programs that they start, into memory if there is room and TMPDIR is not set.

    A start of a daemon waits for the disk some twenty times. What a loss of power takes is no matter of these tests:
    those of a failing disk replace the calls of the system.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK | os.X_OK):
        return
    found = os.statvfs(MEMORY)
    if found.f_bavail * found.f_frsize >= MEMORY_BYTES and not found.f_flag & getattr(os, "ST_NOEXEC", 0):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


_files_in_memory()

# Each run tries other examples. How long one takes is a matter of what else the machine does.
for _profile, _examples in (("some", SOME), ("many", MANY)):
    hypothesis.settings.register_profile(
        _profile, max_examples=_examples, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
hypothesis.settings.load_profile("some")

# A shell starts what runs in the background with SIGINT ignored, nohup with SIGHUP; the programs that tests start would
# inherit that. A handler they do not inherit, and with one that does nothing this process goes on as before.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda _number, _frame: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the daemons of all tests have their databases on a PostgreSQL server; keep pictures."""
    parser.addoption(
        "--database", choices=["sqlite", "postgresql"], default="sqlite", help="where daemons have their databases"
    )
    parser.addoption("--pictures", type=Path, help="where tests of the console put pictures of its screens")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Refuse every process that a test outside of end_to_end/ and faults/ starts, its fixtures included.

    Let every test see warnings in ``caplog`` and ``capsys``: a command that ran in this process may have configured the
    logs.
    """
    logging.getLogger().setLevel(logging.WARNING)
    structlog.reset_defaults()
    _processes["allowed"] = any(item.path.is_relative_to(folder) for folder in WITH_PROCESSES)
    try:
        return (yield)
    finally:
        _processes["allowed"] = True


@contextlib.contextmanager
def processes_allowed() -> Iterator[None]:
    """Let a fixture that many tests share start or end its process."""
    before, _processes["allowed"] = _processes["allowed"], True
    try:
        yield
    finally:
        _processes["allowed"] = before


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Have each of several processes load a part of the test files before it collects all of them.

    In a fresh clone, pytest rewrites the asserts of every file and keeps the result: five of ten seconds of a process's
    collection. Without parts, all processes would do it for the same file at the same time. Hypothesis does the same
    with the constants of every module, which it tries as examples: three seconds.
    """
    given = getattr(session.config, "workerinput", None)
    if given is None:
        return
    # Almost nothing that is made meanwhile becomes garbage, and all of it would be looked through again and again.
    gc.disable()
    if session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    number, count = int(given["workerid"].removeprefix("gw")), given["workercount"]
    files = sorted(Path(__file__).parent.rglob("test_*.py"), key=lambda file: file.stat().st_size)
    for file in files[number::count]:
        # What is wrong with a file is reported when it is collected.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            import_path(file, mode="importlib", root=session.config.rootpath, consider_namespace_packages=False)
    sources = sorted(path for name in ("src", "tests", "scripts") for path in (ROOT / name).rglob("*.py"))
    for path in sources[number::count]:
        module = types.ModuleType(path.stem)
        module.__file__ = str(path)
        constants_from_module(module)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the long trials unless their marker is selected; skip what PostgreSQL does not have.

    Run the tests that use the browser on the event loop of its connection.
    """
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
    if config.getoption("--database") == "postgresql":
        for item in items:
            for marker in item.iter_markers("sqlite"):
                item.add_marker(pytest.mark.skip(reason=marker.args[0]))
    if "soak" in (config.option.markexpr or ""):
        return
    skipped = [item for item in items if item.get_closest_marker("soak")]
    if skipped:
        config.hook.pytest_deselected(items=skipped)
        items[:] = [item for item in items if item not in skipped]


Files = list[list[pytest.Item]]


class Mixing:
    """Puts files whose tests wait for processes between those that use the processor, where several run at a time.

    By name, a fourth of all files would wait at the end while no other test is left.
    """

    # How much sooner than the others the files that wait are through: at the end no process has only long tests.
    SOONER = 1.2

    def __init__(self, processes: int) -> None:
        self._processes = processes

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Order the files; the tests of one stay together, for the fixtures that they share.

        Each process begins with an equal part of all tests, in this order; so each part is mixed alone.
        """
        files: dict[Path, list[pytest.Item]] = {}
        for item in items:
            files.setdefault(item.path, []).append(item)
        waiting = [path for path in files if any(path.is_relative_to(folder) for folder in WITH_PROCESSES)]
        parts = zip(
            self._parts([files[path] for path in waiting]),
            self._parts([found for path, found in files.items() if path not in waiting]),
            strict=True,
        )
        items[:] = [item for part in parts for item in self._mixed(*part)]

    def _parts(self, files: Files) -> list[Files]:
        """Return parts of about the same number of tests, one for each process."""
        parts: list[Files] = [[] for _ in range(self._processes)]
        total, passed = sum(map(len, files)), 0
        for file in files:
            parts[passed * self._processes // total].append(file)
            passed += len(file)
        return parts

    def _mixed(self, waiting: Files, others: Files) -> Iterator[pytest.Item]:
        left, count, passed = list(waiting), sum(map(len, others)), 0
        for file in others:
            while left and (len(waiting) - len(left)) * count < passed * len(waiting) * self.SOONER:
                yield from left.pop(0)
            yield from file
            passed += len(file)
        for file in left:
            yield from file


class Telling:
    """Tells the main process of each test only what it shows: most of its work is to take in reports."""

    @pytest.hookimpl
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a test; leave out that it was set up and torn down, unless that failed or was skipped."""
        place = {"nodeid": item.nodeid, "location": item.location}
        item.ihook.pytest_runtest_logstart(**place)
        for report in runtestprotocol(item, log=False, nextitem=nextitem):
            if report.when == "call" or not report.passed:
                item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(**place)
        return True


def pytest_configure(config: pytest.Config) -> None:
    """Mix the files in each of several processes, which all have the same order.

    With ``--durations`` all reports are sent to the main process, which makes the directory that they share.
    """
    given = getattr(config, "workerinput", None)
    if given is None:
        shared = os.environ[forking.SHARED_VARIABLE] = tempfile.mkdtemp(prefix="aliciacfg-tests-")
        config.add_cleanup(lambda: shutil.rmtree(shared, ignore_errors=True))
    else:
        config.pluginmanager.register(Mixing(given["workercount"]))
        if config.option.durations is None:
            config.pluginmanager.register(Telling())


def pytest_collection_finish() -> None:
    """Spare the garbage collector the thousands of tests that were collected: they stay until the end."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signs certificates."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A PostgreSQL server for all tests; a test uses ``postgres``, a fixture of a wider scope this."""
    # A daemon, and each command that opens the database, warns of a server that is not durable.
    on_it = request.config.getoption("--database") == "postgresql"
    with processes_allowed():
        made = Postgres(fsync="on", full_page_writes="on", max_connections="400") if on_it else Postgres()
    try:
        with processes_allowed():
            made.start()
        yield made
    finally:
        with processes_allowed():
            made.remove()


@pytest.fixture(scope="session", autouse=True)
def _databases(request: pytest.FixtureRequest) -> None:
    """Put the databases of daemons where ``--database`` says."""
    if request.config.getoption("--database") == "postgresql":
        DATABASES.server = request.getfixturevalue("postgres_server")


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """A PostgreSQL server; a test makes databases of its own with ``create``, and changes nothing else."""
    with postgres_server.lent():
        yield postgres_server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker").start()
    yield made
    made.stop()


@pytest.fixture
def make_daemon(tmp_path: Path, broker: Broker, request: pytest.FixtureRequest) -> Iterator[Callable[..., Daemon]]:
    """Create daemons without starting them; stop them after the test, and fail if one logged a traceback.

    A test file may name the services of their homes in HOME_SERVICES: a start with all takes two thirds more processor
    time. A test of such a file that needs others calls it with ``services``, and with None for all.
    """
    if "postgres" in request.fixturenames:
        # Before it, so that no daemon uses a database any more when that is emptied: they would lock each other out.
        request.getfixturevalue("postgres")
    debug = True if request.path.parent.name == "faults" else None
    named = getattr(request.module, "HOME_SERVICES", None)
    made: list[Daemon] = []

    def make(name: str = "home", services: Sequence[str] | None = named, **options: Any) -> Daemon:
        options = {"broker_port": broker.port, "asyncio_debug": debug, **options}
        made.append(Daemon(tmp_path / name, **options).prepare())
        return made[-1] if services is None else made[-1].keep_services(*services)

    yield make
    for daemon in made:
        daemon.stop()
        if daemon.log.exists():
            assert not tracebacks(daemon), daemon.log.read_text()[-6000:]


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that is READY, of the test's own."""
    return make_daemon().start()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A READY daemon for tests that change nothing, or only a service whose name no other test uses."""
    with serving(tmp_path_factory.mktemp("shared"), asyncio_debug=None) as made:
        yield made


@pytest.fixture(scope="module")
def module_daemon(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A READY daemon for the tests of one file, each of which changes services that no other test there reads.

    HOME_SERVICES counts as for ``make_daemon``. A file whose tests ask for little but pages has ON_UVLOOP set.
    """
    services = getattr(request.module, "HOME_SERVICES", SERVICES)
    debug = None if getattr(request.module, "ON_UVLOOP", False) else True
    directory = tmp_path_factory.mktemp("module")
    with serving(directory, lambda made: made.keep_services(*services), asyncio_debug=debug) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> "AsyncGenerator[Browser, None]":
    """A headless browser for all tests; a test uses ``visit`` or ``console``, for which nothing of others is kept."""
    # Loaded by the processes that use it.
    from browser import running

    # Everything that a page says passes through this loop.
    asyncio.get_running_loop().set_debug(False)
    pictures = pytestconfig.getoption("--pictures") is not None
    async with running(tmp_path_factory.mktemp("browser"), pictures=pictures) as browser:
        yield browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def profile(chromium: "Browser") -> "Profile":
    """What the visits of all tests have in common, which is cleared after each."""
    from browser import Profile

    return await Profile.of(chromium)


@pytest_asyncio.fixture(loop_scope="session")
async def visit(profile: "Profile") -> "AsyncGenerator[Visit, None]":
    """A visit of pages, which fails the test when one complains of something that the test does not allow."""
    from browser import Visit

    async with profile.visiting(Visit) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def console(profile: "Profile", request: pytest.FixtureRequest) -> "AsyncGenerator[Console, None]":
    """One person's visit of the console, which fails the test as ``visit`` does."""
    from console_browser import Console

    async with profile.visiting(Console) as made:
        made.pictures = request.config.getoption("--pictures")
        yield made
