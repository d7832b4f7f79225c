"""What the daemon's refusals say in the words of the command line."""

from typing import cast

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import Need, without_rules
from aliciacfg.cli.command_words import in_command_words
from aliciacfg.errors import Forbidden, Unauthorized


@pytest.mark.parametrize(("need", "operation", "role"), [("read", "get", "reader"), ("write", "patch", "writer")])
def test_a_caller_without_permission_learns_of_tokens(need: str, operation: str, role: str):
    """With a token set, a refused read or write names the role and how to send one, as other refusals do."""
    caller = Caller("root", "mqtt", proven=True)
    with pytest.raises(Forbidden) as refused:
        without_rules(["lamp"], tokens=True).check(caller, cast("Need", need), "lamp", operation=operation)
    told = in_command_words(str(refused.value))
    assert f"services.lamp.{need} in environments/access.yaml" in told
    assert f"`token create NAME --role {role}`: `ALICIACFG_TOKEN=… aliciacfg --http URL …`" in told


def test_a_caller_without_a_name_learns_of_the_option():
    """``--as`` puts the name into the topic; topics are not typed at a command line."""
    with pytest.raises(Unauthorized) as refused:
        without_rules(["lamp"], tokens=True).check(Caller(None, "mqtt"), "own", "lamp", operation="recipient")
    told = in_command_words(str(refused.value))
    assert "with --http set ALICIACFG_TOKEN to a token, over MQTT say it with --as NAME." in told
