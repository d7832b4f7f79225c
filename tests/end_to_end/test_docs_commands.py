"""Every command of the documentation, run as it is typed, in the order of its page."""

import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import doc_blocks
from aliciacfg.cli import main as root
from brokers import Broker
from daemons import Daemon, serving
from doc_blocks import Block, Page
from doc_shell import Shell

PAGES = list(doc_blocks.pages())
# By reason, how many blocks cannot run in the tests.
SKIPPED = Counter(docker=7, forever=5, network=14, postgres=3, root=6, systemd=9, terminal=3)


def run_page(page: Page, shell: Shell) -> list[str]:
    """Run the blocks of a page; return what went otherwise than the page says."""
    failed: list[str] = []
    before = len(shell.background)
    try:
        for block in page.blocks:
            if block.skipped:
                continue
            if "file" in block.marks:
                doc_blocks.written(block, shell.working_directory)
                # A reader takes longer to go on than the daemon to notice the edit; the test does not.
                if block.marks["file"].startswith(("environments/", "schemas/")):
                    assert shell.run("aliciacfg reload").code == 0, block.place
                continue
            failed += run_block(block, shell)
            if failed:
                # What follows may stand on it.
                break
    finally:
        shell.end_background(but=before)
    return failed


def run_block(block: Block, shell: Shell) -> Iterator[str]:
    """Run a block; yield what went otherwise than the page says."""
    commands = block.commands
    for number, (command, shown) in enumerate(commands, 1):
        if "background" in block.marks:
            shell.start(command)
            continue
        typed = block.marks.get("input", "").replace("\\n", "\n")
        ran = shell.run(command, terminal=block.language == "console", typed=typed)
        expected = int(block.marks.get("exit", "0")) if number == len(commands) else 0
        if ran.code != expected:
            yield f"{block.place}: {command.strip()}\nended with {ran.code}, not {expected}:\n{ran.output}"
        elif shown and not is_shown(ran.output, shown):
            yield f"{block.place}: {command.strip()}\nprinted\n{ran.output}\nnot\n" + "\n".join(shown)


def is_shown(output: str, shown: list[str]) -> bool:
    """Whether an output is what a page shows.

    ``…`` stands for anything, on a line of its own for any lines. How wide columns are, and how long ago something was,
    does not count.
    """
    pattern = ""
    for line in comparable("\n".join(shown)).splitlines():
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += r".*?".join(re.escape(part) for part in line.split("…")) + r" *\n"
    return re.fullmatch(pattern.strip("\n"), comparable(output)) is not None


def comparable(text: str) -> str:
    lines = [re.sub(r" {2,}", "  ", line.rstrip()) for line in text.strip().splitlines()]
    return re.sub(r"\b\d+ (?:s|min|h) ago\b", "just now", "\n".join(lines)) + "\n"


@pytest.mark.timeout(180)
def test_the_commands_for_the_alicia_home(tmp_path: Path):
    """Pages whose commands are typed beside a daemon with the 22 services."""
    failed: list[str] = []
    with serving(tmp_path / "home", asyncio_debug=None) as daemon:
        for page in [page for page in PAGES if page.home == "alicia"]:
            with Shell(daemon.directory, daemon.environment(), {"127.0.0.1:8026": address(daemon)}) as shell:
                failed += run_page(page, shell)
    assert not failed, "\n\n".join(failed)


def address(daemon: Daemon) -> str:
    return daemon.url.partition("://")[2]


@pytest.mark.sqlite("the pages show what a home says that no other daemon serves")
@pytest.mark.timeout(180)
def test_the_commands_for_a_home_of_ones_own(tmp_path: Path):
    """Pages that begin in an empty directory (``none``), or beside the files of the 22 services (``files``)."""
    failed: list[str] = []
    for page in [page for page in PAGES if page.home in {"none", "files"}]:
        directory = tmp_path / Path(page.name).stem
        directory.mkdir()
        broker = Broker(tmp_path / f"{directory.name}-broker").start()
        daemon = Daemon(directory, broker.port)
        if page.home == "files":
            daemon.prepare()
        try:
            with Shell(directory, daemon.environment()) as shell:
                failed += run_page(page, shell)
        finally:
            broker.stop()
    assert not failed, "\n\n".join(failed)


@pytest.mark.sqlite("the pages show what a home says that no other daemon serves")
@pytest.mark.timeout(180)
def test_the_commands_for_the_home_of_init(tmp_path: Path):
    """Pages whose commands are typed beside a daemon that serves what ``aliciacfg init`` lays out."""
    failed: list[str] = []
    broker = Broker(tmp_path / "broker").start()
    daemon = Daemon(tmp_path / "home", broker.port)
    daemon.directory.mkdir()
    try:
        with Shell(daemon.directory, daemon.environment()) as shell:
            assert shell.run("aliciacfg init").code == 0
            shell.start("aliciacfg serve --dev")
            for page in [page for page in PAGES if page.home == "own"]:
                failed += run_page(page, shell)
    finally:
        broker.stop()
    assert not failed, "\n\n".join(failed)


def test_what_does_not_run_is_known():
    """Each block that is left out has a reason, names only programs for which that reason holds, and parses."""
    left_out = [block for page in PAGES for block in page.blocks if block.skipped]
    assert Counter(block.skipped for block in left_out) == SKIPPED
    for block in left_out:
        allowed = doc_blocks.SKIPPED[block.skipped]
        for command, _ in block.commands:
            parsed = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
            assert parsed.returncode == 0, (block.place, parsed.stderr)
            assert any(word in allowed for word in re.findall(r"[\w./-]+", command)), block.place
            for words in calls_of_aliciacfg(command):
                check_usage(words, block.place)


def calls_of_aliciacfg(script: str) -> Iterator[list[str]]:
    """The arguments of each call of ``aliciacfg`` in a script, without redirections."""
    for part in re.split(r"\|\|?|&&|;|\n(?![ ])", script.replace("\\\n", " ")):
        words = [word for word in shlex.split(part, comments=True) if not re.match(r"[A-Z_]+=|[<>]|sudo$", word)]
        # Of another program it is a user, a unit or a container.
        if words[:1] == ["aliciacfg"] or words[:2] == ["docker", "compose"]:
            places = [number for number, word in enumerate(words) if word == "aliciacfg"]
            if places and (words[0] == "aliciacfg" or len(places) > 1):
                yield words[places[-1] + 1 :]


def check_usage(words: list[str], place: str) -> None:
    """Fail unless the commands and options exist that a call names."""
    # Click keeps the option for help that it made first.
    command, context = root, click.Context(root, info_name="aliciacfg", **root.context_settings)
    while True:
        try:
            _, words, _ = command.make_parser(context).parse_args(list(words))
        except click.UsageError as error:
            raise AssertionError(f"{place}: {error.message}") from error
        if not isinstance(command, click.Group) or not words:
            return
        found = command.get_command(context, words[0])
        assert found is not None, (place, words[0])
        command, context, words = found, click.Context(found, parent=context), words[1:]


def test_no_command_is_shown_outside_of_a_block():
    """Commands stand in blocks of ``sh`` or ``console``, which are run, not in blocks that are only indented."""
    for path in doc_blocks.DOCS.rglob("*.md"):
        assert not re.findall(r"\n\n    (?:aliciacfg|mosquitto_|curl|docker|sudo|python3?) .*", path.read_text()), path


@pytest.mark.parametrize(
    ("shown", "matches"),
    [
        (["a", "b"], True),
        (["a", "c"], False),
        (["a"], False),
        (["…"], True),
        (["a", "…"], True),
        (["…a", "…"], True),
        (["…b", "…"], False),
        (["a  ", "b"], True),
    ],
)
def test_an_output_is_compared_with_what_is_shown(shown: list[str], *, matches: bool):
    """Whole, apart from what ``…`` stands for."""
    assert is_shown("a\nb\n", shown) is matches


def test_marks_are_read():
    """A comment directly above a block."""
    text = 'Text.\n\n<!-- test: exit=4 input="a\\n" -->\n```sh\nfalse\n```\n\n```yaml\na: 1\n```\n'
    first, second = doc_blocks.blocks_of("page", text)
    assert (first.line, first.language, first.text, first.marks) == (4, "sh", "false\n", {"exit": "4", "input": "a\\n"})
    assert (second.language, second.marks) == ("yaml", {})
