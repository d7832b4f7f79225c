"""Texts that YAML could read as another type, and parsers of YAML that are not the code under test."""

from typing import Any

from ruamel.yaml import YAML

from aliciacfg.documents import canonical

# What a reader of YAML may take for something else than a text.
TEXTS = [
    "", " ", "~", "null", "Null", "true", "True", "yes", "Yes", "on", "off", "n", "y", "1", "-1", "+1", "0o17", "017",
    "0x1f", "0b1", "1_000", "1e3", "1.5", ".5", "1.", ".inf", "-.INF", ".nan", "12:30:45", "1:30", "2024-01-01",
    "2001-12-14 21:59:43.10 -5", "=", "<<", "-", "- a", "a: b", "a:", ":a", "a #b", "#a", "&a", "*a", "!a", "!!str x",
    "%a", "@a", "`a`", "{a}", "[a]", "a, b", "'", '"', "it's", "a\nb", "a\n", "\na", "\ta", "a\t", "a\\nb", " a", "a ",
    "é", "日本", "\u2028", "\x85", "\x7f", "\u200b", "\ufeff", "🎈", "---", "...", "? a", "| a", "> a", "a\r\nb",
    "x" * 300, "\x00", "$HOME",
    "`id`", "$(id)", "a;b", "a&&b", "\\", "!", "*", "a=b", "\x1b[0m",
]  # fmt: skip


def readers() -> dict[str, Any]:
    """Loaders that follow YAML 1.2 and YAML 1.1, none of them the code under test."""
    old = YAML(typ="safe", pure=True)
    old.version = (1, 1)
    return {"1.2": YAML(typ="safe", pure=True), "1.1": old}


def same(left: object, right: object) -> bool:
    return canonical(left) == canonical(right)  # pyright: ignore[reportArgumentType]
