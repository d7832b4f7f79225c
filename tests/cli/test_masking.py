"""How people see secrets that are sealed to a service's key."""

from aliciacfg.cli.masking import without_boxes_anywhere


def test_a_box_is_three_stars():
    """At any depth; what is none stays as it is."""
    box = f"sealed:v1:{'0' * 16}:AAAA"
    found = without_boxes_anywhere({"settings": {"pin": box, "list": [1, box], "text": "sealed"}, "on": True})
    assert found == {"settings": {"pin": "***", "list": [1, "***"], "text": "sealed"}, "on": True}
    assert without_boxes_anywhere(None) is None
