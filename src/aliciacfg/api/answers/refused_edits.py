"""The edits of files that are not in force."""

from typing import Annotated

import msgspec
from msgspec import Meta


class RefusedEdit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem for which the files on disk were refused; the configurations before them stay in force.

    Attributes:
        file: The file's name relative to the home; empty if it is not known.
        line: 1-based line; null for the whole file.
        message: What is wrong; missing where the reader may not know it.
        service: The service that it concerns; missing if it concerns several, or one that the reader may not know.
    """

    file: str
    line: int | None
    message: str | None = None
    service: str | None = None


RefusedEdits = Annotated[
    list[RefusedEdit], Meta(description="Why edits of files are not in force; missing if all files are.")
]
