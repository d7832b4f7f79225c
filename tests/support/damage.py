"""Damage to a database file, as bad disks and bad programs do it, from a seed."""

import random
from pathlib import Path

PAGE = 4096


def damage(path: Path, seed: int) -> str:
    """Damage a file in one of several ways; return in which way."""
    dice = random.Random(seed)
    content = bytearray(path.read_bytes())
    page = dice.randrange(len(content) // PAGE) * PAGE
    way = dice.choice(["bits", "bytes", "zeros", "noise", "cut", "copy", "header"])
    match way:
        case "bits":
            for _ in range(dice.randint(1, 8)):
                content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        case "bytes":
            at = dice.randrange(len(content))
            content[at : at + 64] = dice.randbytes(len(content[at : at + 64]))
        case "zeros":
            content[page : page + PAGE] = bytes(PAGE)
        case "noise":
            content[page : page + PAGE] = dice.randbytes(PAGE)
        case "cut":
            del content[page + dice.randrange(PAGE) :]
        case "copy":
            other = dice.randrange(len(content) // PAGE) * PAGE
            content[page : page + PAGE] = content[other : other + PAGE]
        case _:
            at = dice.randrange(100)
            content[at] = dice.randrange(256)
    path.write_bytes(content)
    return way
