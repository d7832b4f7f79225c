"""Access rules: those of the example file, and ones in which every service has a rule of its own."""

import random

from aliciacfg.access import rules_file
from aliciacfg.access.rules import Access
from repository import ROOT, SERVICES

EXAMPLE = (ROOT / "environments" / "access.yaml.example").read_text()


def load(text: str) -> Access:
    return rules_file.load(text, services=SERVICES)


def dense_rules() -> str:
    """Rules of every kind for every service, the same at each run."""
    pick = random.Random(5)
    names = [*SERVICES, "dashboard", "visitor"]
    groups = "".join(f"  g{number}: {pick.sample(names, 4)}\n" for number in range(4))
    rules = "".join(
        f"  {service}:\n"
        f"    read: {{allowed_services: {pick.sample(names, 3)}, allowed_groups: [g{pick.randrange(4)}]}}\n"
        f"    write: {{allowed_services: {pick.sample(names, 2)}, allowed_groups: [g{pick.randrange(4)}]}}\n"
        for service in SERVICES
    )
    # An administrator that is a service as well, and one that is none.
    others = "admins: [operator, health_monitor]\nusers: [dashboard, visitor, onlooker]\n"
    return f"groups:\n{groups}services:\n{rules}{others}"
