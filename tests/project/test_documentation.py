"""The documents cannot drift from the code."""

import re

import click

from aliciacfg.cli import EXIT_CODES, main
from aliciacfg.errors import ErrorCode
from aliciacfg.monitoring.metrics import FAMILIES
from aliciacfg.operations.table import OPERATIONS
from aliciacfg.settings import SETTINGS
from repository import ROOT

README = (ROOT / "README.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
OPERATION = (ROOT / "docs" / "operation.md").read_text()


def test_the_settings_table_is_the_one_in_the_code():
    """Every setting with its flag, default and meaning, and none that is not there."""
    table = OPERATION.partition("<!-- settings:")[2].partition("<!-- /settings -->")[0]
    documented = [line for line in table.splitlines() if line.startswith("| `")]
    expected = [
        f"| `{row.name}` | `{row.flag}` | {f'`{row.default}`' if row.default else ''} | {row.help} |"
        for row in SETTINGS
    ]
    assert documented == expected


def test_the_metrics_table_is_the_one_in_the_code():
    """Every metric with its type, labels and meaning, and none that is not there."""
    table = OPERATION.partition("<!-- metrics:")[2].partition("<!-- /metrics -->")[0]
    documented = [line for line in table.splitlines() if line.startswith("| `")]
    expected = [
        f"| `{family.name}` | {family.kind} | {', '.join(f'`{label}`' for label in family.labels)} | {family.help} |"
        for family in FAMILIES
    ]
    assert documented == expected


def test_every_operation_is_in_the_readme_with_its_route():
    """Topic and route as the table has them."""
    for operation in OPERATIONS:
        path = operation.path.replace("{target}", f"{{{operation.target}}}")
        row = next(line for line in README.splitlines() if line.startswith(f"| {operation.name} |"))
        assert f"`{operation.method} {path}`" in row


def test_every_field_error_code_and_command_is_documented():
    """Fields and codes in the protocol, commands in the README."""
    for operation in OPERATIONS:
        for name in operation.fields:
            assert f"`{name}`" in PROTOCOL, name
    documented = set(re.findall(r"`([a-z_]+)`", PROTOCOL))
    later = {"unauthorized"}
    assert set(ErrorCode.__args__) - later <= documented
    assert set(EXIT_CODES) == set(ErrorCode.__args__)
    listed = re.search(r"lists all commands: `([^`]+)`", README)
    assert listed is not None
    assert sorted(listed[1].split()) == main.list_commands(click.Context(main))


def test_links_lead_somewhere():
    """Relative links of all documents name existing files and headings."""
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "schemas" / "README.md"]:
        for link in re.findall(r"\]\(([^)]+)\)", document.read_text()):
            if link.startswith("http"):
                continue
            name, _, anchor = link.partition("#")
            target = document.parent / name if name else document
            assert target.exists(), (document.name, link)
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
            slugs = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert not anchor or anchor in slugs, (document.name, link)


def test_the_readme_begins_with_the_two_commands():
    """The commands to start and to test come first."""
    text = (ROOT / "README.md").read_text()
    assert text.index("make run") < text.index("make test") < text.index("**Over MQTT.**")
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"run", "test", "test-unit", "lint", "bench", "soak"} <= set(targets)
