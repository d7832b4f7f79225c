"""What people read of a write."""

from aliciacfg.api.answers.changes import ValueChange
from aliciacfg.api.answers.configurations import WarningDetail
from aliciacfg.cli.write_results import WriteResult, effect_lines


def text(line: object) -> str:
    """Return a line without its styles."""
    return "".join(part if isinstance(part, str) else part[0] for part in line)  # type: ignore[union-attr]


def test_a_hidden_value_of_a_file_is_a_note():
    """With file and line, what it says, and the way back: it is what most changes at run time are meant to do."""
    result = WriteResult(
        "bell in dev is at revision 2", service="bell", changed=["/settings/volume"],
        changes={"/settings/volume": ValueChange(old=21, new=23)},
        warnings=["/settings/volume is hidden"],
        warning_details=[
            WarningDetail(
                kind="shadowed", message="/settings/volume is hidden", pointer="/settings/volume",
                file="environments/base.yaml", line=37, overlay_revision=2,
            )
        ],
    )  # fmt: skip
    assert text(effect_lines(result)[-1]) == (
        "  note: environments/base.yaml:37 says 21; this change at run time hides it; "
        "`aliciacfg unset bell /settings/volume` takes it back"
    )


def test_a_change_that_waits_for_the_broker_says_so():
    result = WriteResult("bell in dev is at revision 2", waits_for_broker=True)
    assert [text(line) for line in effect_lines(result)] == [
        "  note: the broker is away; the change will be published when it is back"
    ]


def test_a_deleted_service_that_files_define_is_said_to_remain():
    """``delete`` takes only run-time changes away; a service of no file is gone afterwards, and nothing is added."""
    gone = WriteResult(message="a in dev is deleted", service="a", unchanged=True, remains=False)
    kept = WriteResult(message="a in dev stays", service="a", unchanged=True, remains=True)
    assert effect_lines(gone) == []
    assert [text(line) for line in effect_lines(kept)] == [
        "  note: the files define a, so it stays configured; to remove it, delete its lines there"
    ]


def test_a_refusal_names_options():
    """Not the fields of a request, which only programs send."""
    result = WriteResult("It needs version 2.0.0. Send allow_breaking if every reader can do without", status="error")
    assert result.message == "It needs version 2.0.0. Add --allow-breaking if every reader can do without"
