"""Numbers of things in messages."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 row``, ``2 rows``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def counted_are(number: int, noun: str) -> str:
    """Return the same with a verb: ``1 row is``, ``2 rows are``."""
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'}"
