"""What a mistyped name may have meant."""

from collections.abc import Iterable
from typing import Final

_MAX_SUGGESTED: Final = 3
_LEAST_LIKENESS: Final = 0.6
# Beside a likely one, unlikely ones only distract.
_BEHIND_THE_BEST: Final = 0.15


def close_to(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are most like a name, the likeliest first; case and ``-`` for ``_`` count little."""
    from difflib import SequenceMatcher

    typed = _plain(name)
    matcher = SequenceMatcher(b=typed)
    likeness: dict[str, float] = {}
    for one in known:
        matcher.set_seq1(_plain(one))
        # The quick ones are upper bounds of the slow one.
        if matcher.real_quick_ratio() >= _LEAST_LIKENESS and matcher.quick_ratio() >= _LEAST_LIKENESS:
            likeness[one] = matcher.ratio()
    best = max(likeness.values(), default=0.0)
    least = max(_LEAST_LIKENESS, best - _BEHIND_THE_BEST)
    return sorted((one for one, ratio in likeness.items() if ratio >= least), key=lambda one: (-likeness[one], one))[
        :_MAX_SUGGESTED
    ]


def did_you_mean(meant: Iterable[str]) -> str | None:
    """Return the question whether one of these was meant; None if there are none."""
    listed = " or ".join(meant)
    return f"did you mean {listed}?" if listed else None


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").lstrip("_")
