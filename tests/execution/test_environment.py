"""The environment of a command, and what the system would refuse."""

import os

import pytest

from aliciacfg.execution import environment
from aliciacfg.variables.resolution import Variable


def test_variables_are_set_in_utf_8_over_what_is_inherited(monkeypatch: pytest.MonkeyPatch):
    """Whatever bytes the inherited ones are."""
    monkeypatch.setitem(os.environ, "ODD", os.fsdecode(b"\xff\xfe"))
    monkeypatch.setenv("HERE", "before")
    made = environment.with_variables(
        environment.inherited(), [Variable("HERE", "/a", "日本"), Variable("NEW", "/b", "")]
    )
    assert made[b"ODD"] == b"\xff\xfe"
    assert made[b"HERE"] == "日本".encode()
    assert made[b"NEW"] == b""


def test_a_variable_that_is_too_long_is_named():
    """On Linux a single one has 32 pages, its name, the equal sign and a zero byte included; no value is shown."""
    most = 32 * os.sysconf("SC_PAGE_SIZE")
    fits = {b"A": b"x" * (most - 3)}
    assert environment.size_problem(["true"], fits) is None
    problem = environment.size_problem(["true"], {**fits, b"LONG": b"hush" * (most // 4)})
    assert problem is not None
    assert problem.startswith("LONG takes ")
    assert "hush" not in problem


def test_all_together_may_be_too_much():
    """The limit of the system, which depends on the limit of the stack."""
    many = {f"V{number}".encode(): b"x" * 100_000 for number in range(os.sysconf("SC_ARG_MAX") // 100_000 + 1)}
    problem = environment.size_problem(["true"], {**many, b"LARGEST": b"x" * 100_001})
    assert problem is not None
    assert "the largest is LARGEST" in problem
