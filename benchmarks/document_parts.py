"""The parts of docs/performance.md, so that a run of some sections leaves the figures of the others."""

import re
from dataclasses import dataclass, replace

_GOALS = re.compile(r"^(\d+) of (\d+) met\. ", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """The document in its parts.

    Attributes:
        introduction: What stands before the line about the run.
        run: The line that says what was measured.
        machine: The table of machine and versions.
        verdicts: The text before the table of goals.
        table: The head of that table.
        goals: Its rows, each with its section's title before a colon.
        sections: The text of each section by its title: a paragraph and a table.
    """

    introduction: str
    run: str
    machine: str
    verdicts: str
    table: str
    goals: tuple[str, ...]
    sections: dict[str, str]

    @classmethod
    def parsed(cls, text: str) -> "Document":
        """Take a document apart."""
        head, goals, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
        title, introduction, run, machine = head.strip().split("\n\n", 3)
        _, verdicts, rows = goals.strip().split("\n\n", 2)
        lines = rows.splitlines()
        parts = (section.partition("\n") for section in sections)
        return cls(
            introduction=f"{title}\n\n{introduction}",
            run=run,
            machine=machine,
            verdicts=verdicts,
            table="\n".join(lines[:2]),
            goals=tuple(lines[2:]),
            sections={title: body.strip() for title, _, body in parts},
        )

    def text(self) -> str:
        """Put it together."""
        met = sum(row.endswith(" met |") for row in self.goals)
        verdicts = _GOALS.sub(f"{met} of {len(self.goals)} met. ", self.verdicts)
        parts = [self.introduction, self.run, self.machine, "## Goals", verdicts]
        parts.append("\n".join([self.table, *self.goals]))
        for title, body in self.sections.items():
            parts += [f"## {title}", body]
        return "\n\n".join(parts) + "\n"

    def with_later(self, later: "Document") -> "Document":
        """Return this document with the sections of a later run in place of its own.

        Each of them says so, and where it was measured if that was elsewhere. A run of all sections replaces the
        document.
        """
        if self.sections.keys() <= later.sections.keys():
            return later
        note = self._note(later)
        sections = self.sections | {title: _noted(body, note) for title, body in later.sections.items()}
        return replace(
            self,
            goals=tuple(
                row
                for title in sections
                for row in (later if title in later.sections else self).goals
                if row.startswith(f"| {title}: ")
            ),
            sections=sections,
        )

    def _note(self, later: "Document") -> str:
        (machine, *versions), (own_machine, *own_versions) = _cells(later.machine), _cells(self.machine)
        on = "" if machine == own_machine else f", on {machine}"
        known = {version for cell in own_versions for version in cell.split(", ")}
        # What one of the runs lacks is not what makes figures differ.
        names = {_name(version) for version in known}
        others = [
            version
            for cell in versions
            for version in cell.split(", ")
            if version not in known and _name(version) in names
        ]
        return f"Measured later than the other sections{on}{', with ' if others else ''}{', '.join(others)}."


def _cells(table: str) -> list[str]:
    """Return the second cell of each row below the head."""
    return [row.split(" | ", 1)[1].removesuffix(" |") for row in table.splitlines()[2:]]


def _name(version: str) -> str:
    """Return of what it is the version; a number alone is Python's."""
    return version.rpartition(" ")[0]


def _noted(body: str, note: str) -> str:
    paragraph, _, table = body.partition("\n\n")
    return f"{paragraph} {note}\n\n{table}"
