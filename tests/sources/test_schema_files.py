"""Schemas that are in use are not parsed again."""

import gc
import weakref

import pytest

from aliciacfg.errors import SourceError
from aliciacfg.sources import schema_files

TEXT = "properties: {settings: {properties: {volume: {type: integer}}}}"


def test_a_schema_in_use_is_not_parsed_again():
    """The same text of the same file is the same schema; another text, file or service has its own."""
    one = schema_files.parse(TEXT, "schemas/bell.yaml", "bell")
    assert schema_files.parse(TEXT, "schemas/bell.yaml", "bell") is one
    for other in ((f"{TEXT}\n", "schemas/bell.yaml", "bell"), (TEXT, "schemas/bell.json", "bell")):
        assert schema_files.parse(*other) is not one
    assert schema_files.parse(TEXT, "schemas/lamp.yaml", "lamp").file == "schemas/lamp.yaml"


def test_a_schema_that_is_not_in_use_is_freed():
    """Otherwise each edit of a file would take memory until the next start."""
    schema = schema_files.parse(TEXT, "schemas/freed.yaml", "freed")
    reference = weakref.ref(schema)
    del schema
    gc.collect()
    assert reference() is None


def test_a_problem_has_the_line_of_its_place():
    """Or that of the nearest place around it."""
    with pytest.raises(SourceError) as raised:
        schema_files.parse("properties:\n  settings:\n    type: nothing\n", "schemas/bell.yaml", "bell")
    assert {(problem.file, problem.line) for problem in raised.value.problems} == {("schemas/bell.yaml", 3)}
