"""Text that a terminal may show, from any author."""


def printable(text: str, *, keep: str = "") -> str:
    """Return text with every character escaped, as in JSON, that could control a terminal or reorder a line.

    Args:
        text: Any text, lone surrogates included.
        keep: Characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
