"""The editor of the user, and a text of hers that is never lost."""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from aliciacfg.atomic_files import replace_file
from aliciacfg.cli.exits import EXIT_FAILED, fail
from aliciacfg.cli.foreground import interrupts_left_to_it
from aliciacfg.file_errors import unreadable, unwritable

_USUAL: Final = ("sensible-editor", "nano", "vi")


class EditedFile:
    """A file that the user edits; it stays until ``drop``.

    Attributes:
        path: The file. Only its owner can read it.
    """

    def __init__(self, name: str) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix="aliciacfg-edit-")) / name
        except OSError as error:
            fail(unwritable(Path(error.filename or tempfile.gettempdir()), error, done="created"), EXIT_FAILED)

    def edit(self, text: str) -> str:
        """Write a text, let the user edit it, and return what she made of it.

        If the editor cannot be started, fails, or leaves no file, the program ends; then the file is there again.
        """
        self.write(text)
        command = [*editor(), str(self.path)]
        try:
            with interrupts_left_to_it():
                ended = subprocess.run(command, check=False)  # noqa: S603 - the user's own editor
        except OSError as error:
            fail(f"the editor {command[0]} cannot be started: {error.strerror}", EXIT_FAILED, hint="set EDITOR")
        if ended.returncode:
            fail(f"the editor {command[0]} ended with {ended.returncode}; nothing was changed", EXIT_FAILED)
        if not self.path.exists():
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self.write(text)
            fail(f"the editor {command[0]} left no file; nothing was changed", EXIT_FAILED)
        return self.read()

    def write(self, text: str) -> None:
        """Replace the text; a program that reads the file meanwhile sees the old one or the new one."""
        try:
            replace_file(self.path, text.encode(), mode=0o600)
        except OSError as error:
            fail(unwritable(self.path, error), EXIT_FAILED)

    def read(self) -> str:
        """Return the text; what is not UTF-8 is replaced, so that it is refused where it stands."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            fail(unreadable(self.path, error), EXIT_FAILED)

    def drop(self) -> None:
        """Remove the file, and what the editor left beside it."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


def editor() -> list[str]:
    """Return the editor's command: ``VISUAL``, else ``EDITOR``, else one that is there; end the program without one."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if named and named.strip():
        return shlex.split(named)
    found = next((one for one in _USUAL if shutil.which(one)), None)
    if found is None:
        fail("there is no editor", EXIT_FAILED, hint="set EDITOR, for example EDITOR=nano")
    return [found]
