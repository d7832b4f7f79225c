"""Commands about whole environments and their files."""

import click

from aliciacfg.cli import output
from aliciacfg.cli.asking import Target, ask


@click.command()
@click.pass_obj
def environments(target: Target) -> None:
    """List the environments and what is wrong with them."""
    found = ask(target, "environments", None, {})
    items = found.get("environments")
    if not output.for_people() or not isinstance(items, list):
        output.show(found)
        return
    rows: list[list[str]] = []
    for item in items:
        if isinstance(item, dict):
            services, problems = item.get("services"), item.get("problems")
            rows.append(
                [
                    str(item.get("name")),
                    "yes" if item.get("name") == found.get("active") else "",
                    "yes" if item.get("protected") else "",
                    str(len(services) if isinstance(services, list) else 0),
                    str(len(problems) if isinstance(problems, list) else 0),
                ]
            )
    output.table(["name", "active", "protected", "services", "problems"], rows)
    for item in items:
        if isinstance(item, dict):
            output.problems(item)


@click.command()
@click.pass_obj
def reload(target: Target) -> None:
    """Make the daemon read its files now, and print what changed or everything that is wrong."""
    output.show(ask(target, "reload", None, {}))
