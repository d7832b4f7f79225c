"""The .env file: the forms that count, and the lines that are problems."""

import os
from pathlib import Path

import pytest

from aliciacfg import dotenv_file
from aliciacfg.errors import SourceError

SECRET = "Planted5ecret"
CERTIFICATE = "-----BEGIN X-----\nMIIB+a/bc=\nMIIC==\n-----END X-----"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("export A=1\n", {"A": "1"}),
        ("A = 1\r\nB =\t2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1\n", {"A": "1"}),
        ("A='a b'\nB=\"c d\" # e\nC=f # g\nD=h#i\n", {"A": "a b", "B": "c d", "C": "f", "D": "h#i"}),
        ("A=\nB=''\nC= # nothing\n", {"A": "", "B": "", "C": ""}),
        ("# A=1\n\n   # B=2\n", {}),
        ("A=\"x\\ny\"\nB='x\\ny'\n", {"A": "x\ny", "B": "x\\ny"}),
        ("A=${B}\nC=pa$$word\nD=a=b==\n", {"A": "${B}", "C": "pa$$word", "D": "a=b=="}),
        (f'A="{CERTIFICATE}"\nB=1\n', {"A": CERTIFICATE, "B": "1"}),
    ],
)
def test_the_forms_that_count(text: str, values: dict[str, str]):
    """As other tools read them."""
    assert dotenv_file.parse(text) == values


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f'A="{SECRET}\nB=1\n', [1]),
        (f'A=1\nB="{SECRET}\nC=1\nD=x"\n', [2]),
        (f"\n\nA='it's {SECRET}'\n", [3]),
        (f'A="{SECRET}" b\n', [1]),
        (f"A: {SECRET}\nB:{SECRET}\n", [1, 2]),
        (f"{SECRET}\nexport {SECRET}\n", [1, 2]),
        (f"A=1\n{SECRET} {SECRET}=x\n={SECRET}\n", [2, 3]),
        (f"A=1\r\n\r\nA={SECRET}\r\n", [3]),
        (f"A-B={SECRET}\n1A={SECRET}\nA.B={SECRET}\n", [1, 2, 3]),
        (f"[section]\nA={SECRET}\n", [1]),
        (f'{{"A": "{SECRET}"}}\n', [1]),
        (f"set A={SECRET}\n", [1]),
        (f"A={SECRET}\0\n", [1]),
    ],
)
def test_the_lines_that_are_problems(text: str, lines: list[int]):
    """Each with its line; what it holds may be a secret, be it before the equals sign."""
    with pytest.raises(SourceError) as caught:
        dotenv_file.parse(text)
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [(".env", line) for line in lines]
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("kind", ["latin-1", "pipe", "link to nothing", "link to itself"])
def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, kind: str):
    """Not the same as no file."""
    path = tmp_path / ".env"
    if kind == "latin-1":
        path.write_bytes(b"A=1\nB=caf\xe9\n")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere" if kind == "link to nothing" else ".env")
    with pytest.raises(SourceError) as caught:
        dotenv_file.read(path)
    assert str(caught.value).startswith(".env:2: is not UTF-8" if kind == "latin-1" else ".env: is ")


def test_no_file_and_a_virtual_environment_have_no_variables(tmp_path: Path):
    """Some name the directory of their virtual environment so."""
    assert dotenv_file.read(tmp_path / ".env") == {}
    (tmp_path / ".env").mkdir()
    assert dotenv_file.read(tmp_path / ".env") == {}
