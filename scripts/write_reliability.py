"""Writes the tables of docs/reliability.md from the lines that the trials of `make soak` wrote."""

import json
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- trials: written by make soak -->\n", "<!-- /trials -->\n"
BEGIN_REPLICAS, END_REPLICAS = "<!-- replicas: written by make soak -->\n", "<!-- /replicas -->\n"
HEAD = "| fault | rounds | acknowledged writes | lost | recovered, median | longest |\n|---|---|---|---|---|---|\n"
HEAD_REPLICAS = (
    "| fault | acknowledged writes | lost | done twice | gets | p99 | longest over HTTP | over MQTT |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


def main() -> None:
    """Replace the tables."""
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
    lines.sort(key=lambda item: item["fault"])
    text = DOCUMENT.read_text("utf-8")
    rows = [
        f"| {item['fault']} | {item['rounds']} | {item['writes']:,} | {item['lost']} "
        f"| {item['median_seconds']:.2f} s | {item['longest_seconds']:.2f} s |\n"
        for item in lines
        if "replicas" not in item
    ]
    text = replaced(text, BEGIN, HEAD + "".join(rows), END)
    rows = [
        f"| {item['fault']} | {item['writes']:,} | {item['lost']} | {item['twice']} "
        f"| {item['gets']:,} | {item['p99_seconds']:.2f} s "
        f"| {item['longest_http_seconds']:.2f} s | {item['longest_mqtt_seconds']:.2f} s |\n"
        for item in lines
        if "replicas" in item
    ]
    DOCUMENT.write_text(replaced(text, BEGIN_REPLICAS, HEAD_REPLICAS + "".join(rows), END_REPLICAS), "utf-8")


def replaced(text: str, begin: str, table: str, end: str) -> str:
    """Return a text with another table between two marks."""
    head, _, rest = text.partition(begin)
    return f"{head}{begin}{table}{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    main()
