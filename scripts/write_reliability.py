"""Writes the table of docs/reliability.md from the lines that the trials of `make soak` wrote."""

import json
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- trials: written by make soak -->\n", "<!-- /trials -->\n"


def main() -> None:
    """Replace the table."""
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
    lines.sort(key=lambda item: item["fault"])
    rows = [
        f"| {item['fault']} | {item['rounds']} | {item['writes']:,} | {item['lost']} "
        f"| {item['median_seconds']:.2f} s | {item['longest_seconds']:.2f} s |\n"
        for item in lines
    ]
    head, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    table = "| fault | rounds | acknowledged writes | lost | recovered, median | longest |\n|---|---|---|---|---|---|\n"
    DOCUMENT.write_text(f"{head}{BEGIN}{table}{''.join(rows)}{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
