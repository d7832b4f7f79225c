"""aliciacfg as a newer version would be, which knows one more format; for ``Daemon.before``.

    python newer_program.py python -m aliciacfg serve

In that format it notes each of its commits in a table that it adds, so that a test sees when it began to do so.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VERSION = "9.1.0"
BEFORE = [sys.executable, str(Path(__file__))]
"""What is put before the command."""
SETTLED_SECONDS = 2.0


def main(arguments: Sequence[str]) -> None:
    import aliciacfg

    aliciacfg.__version__ = VERSION
    from aliciacfg.replicas import format_rise
    from aliciacfg.storage.postgres import formats, transaction
    from aliciacfg.storage.postgres.driver import Link

    format_rise.SETTLED_SECONDS = SETTLED_SECONDS  # pyright: ignore[reportConstantRedefinition]
    formats.STEPS.append(
        formats.Step(
            VERSION,
            expand=(
                'CREATE TABLE IF NOT EXISTS aliciacfg.notes ("commit" bigint PRIMARY KEY)',
                "ALTER TABLE aliciacfg.revisions ADD COLUMN IF NOT EXISTS note text DEFAULT 'new'",
            ),
            contract=("ALTER TABLE aliciacfg.revisions DROP COLUMN IF EXISTS note",),
        )
    )
    write_batch = transaction.write_batch

    async def write_and_note(link: Link, *arguments: Any) -> transaction.Written:
        written = await write_batch(link, *arguments)
        held = arguments[-1]
        if held.format > formats.FIRST:
            await link.rows("INSERT INTO aliciacfg.notes VALUES ($1)", written.commit)
        return written

    # Before ``commits`` takes it from there.
    transaction.write_batch = write_and_note
    from aliciacfg.cli import main as run

    sys.argv = ["aliciacfg", *arguments]
    run()


if __name__ == "__main__":
    main(sys.argv[4:])
