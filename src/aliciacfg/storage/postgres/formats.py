"""The formats of the tables: what each adds, and which of them this program works with.

Daemons of two versions serve a home while it is upgraded, in the format that all of them know. So a format comes in
three parts. The first daemon of the newer version that starts *expands* the tables: it adds what older ones do not
notice. When every daemon can, the leader *raises* the format in ``home``: from then on what was added is written, and
older versions end. In the same transaction, the tables are *contracted*: what only older versions need goes.
"""

from dataclasses import dataclass

from aliciacfg import __version__
from aliciacfg.errors import OtherFormat
from aliciacfg.storage.postgres.driver import Link
from aliciacfg.storage.postgres.statements import SELECT_FORMAT

FIRST = 1
"""The format of the tables that ``statements.CREATE`` makes, and the oldest one that this program works with."""
_FIRST_VERSION = "0.2.0"


@dataclass(frozen=True, slots=True)
class Step:
    """What makes a format of the one before it.

    Attributes:
        version: The first version of aliciacfg that works with the format.
        expand: Statements that older versions do not notice: tables, and columns with a default or without NOT NULL.
            None reads or writes a whole table, and each may be carried out twice (``IF NOT EXISTS``).
        contract: Statements that take away what this version does not use, nor does any other that works with the
            format; each may be carried out twice. The columns ``commit``, ``format`` and ``needs`` of ``home`` stay.
    """

    version: str
    expand: tuple[str, ...] = ()
    contract: tuple[str, ...] = ()


STEPS: list[Step] = []
"""The steps after ``FIRST``, in order."""


def newest() -> int:
    """Return the highest format that this program works with."""
    return FIRST + len(STEPS)


def version_of(number: int) -> str:
    """Return the first version of aliciacfg that works with a format that this program knows."""
    return _FIRST_VERSION if number <= FIRST else STEPS[number - FIRST - 1].version


def steps_between(before: int, after: int) -> list[Step]:
    """Return the steps that make a format of another one."""
    return STEPS[max(before - FIRST, 0) : max(after - FIRST, 0)]


def problem(found: int, needs: str) -> str:
    """Return why this program does not work with a home, and what to do; empty if it does.

    Args:
        found: The format of the home.
        needs: The version of aliciacfg that the format needs at least, as the home has it.
    """
    if found > newest():
        version = f"aliciacfg {needs} or later" if needs else "a later version of aliciacfg"
        return (
            f"the home has format {found}, which needs {version}; this is aliciacfg {__version__}, which works with "
            f"formats up to {newest()}. Nothing was written. Install {version} here, as on the other machines, or "
            "restore a backup from before the upgrade"
        )
    if found < FIRST:
        version = version_of(found + 1)
        return (
            f"the home has format {found}; this is aliciacfg {__version__}, which works with format {FIRST} and later. "
            f"Nothing was written. Run aliciacfg {version} on all machines until `aliciacfg replicas` says format "
            f"{found + 1}, then upgrade to this one"
        )
    return ""


def check(found: int, needs: str) -> None:
    """Check that this program works with a home, as ``problem``.

    Raises:
        OtherFormat: It does not.
    """
    if what := problem(found, needs):
        raise OtherFormat(f"{what[0].upper()}{what[1:]}.")


async def check_home(link: Link) -> None:
    """Check that this program works with the home of a database that has tables.

    Raises:
        OtherFormat: It does not.
        ServerError: The format cannot be read.
    """
    for found, needs in await link.rows(SELECT_FORMAT):
        check(found, needs)
