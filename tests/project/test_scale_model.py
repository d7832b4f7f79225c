"""The model of very many services adds up, and says where each input comes from."""

import dataclasses

import pytest

import scale_model
from scale_model import Inputs


def results(**inputs: int) -> dict[str, str]:
    return {row.what: row.result for row in scale_model.model(Inputs(**inputs))}


def test_each_input_has_its_source():
    """And is shown in the order of the code."""
    assert list(scale_model.SOURCES) == [field.name for field in dataclasses.fields(Inputs)]


def test_the_results_follow_from_the_inputs():
    """By hand: two homes with 40 subscribers, on nodes that take few."""
    found = results(
        services=20,
        subscribers=40,
        services_per_home=10,
        connections_of_a_broker_node=15,
        connections_of_a_database_node=9,
        connections_of_a_daemon=3,
        daemons_per_home=3,
        spread_seconds=8,
        homes_that_may_fail_together=5,
    )
    assert (found["homes"], found["daemons"], found["broker nodes"]) == ("2", "6", "3")
    assert found["database nodes for the connections"] == "2"
    assert found["database nodes, with a synchronous standby each"] == "4"
    assert found["programs that react in a second, with `spread_seconds`"] == "5"


def test_it_takes_inputs_on_the_command_line(capsys: pytest.CaptureFixture[str]):
    """Each under its own name."""
    scale_model.main(["--services", "30000", "--services-per-home", "10000"])
    assert "| homes | 30,000 ÷ 10,000 | 3 |" in capsys.readouterr().out
