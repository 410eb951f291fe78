from __future__ import annotations

import pytest

from redrive.graphs.patterns import patterns_of, serving


@pytest.mark.parametrize(
    ("workflow_id", "graph"),
    [
        ("team-a", "team-a"),
        ("team-b", "team-*"),
        ("other", "*"),
        ("team-*", "team-*"),
        ("team-x1", "team-x?"),
    ],
)
def test_the_same_id_serves_first_then_the_most_specific_pattern(
    workflow_id: str, graph: str
) -> None:
    assert serving(workflow_id, ["*", "team-*", "team-a", "team-x?"]) == graph


def test_without_a_pattern_that_fits_nothing_serves() -> None:
    assert serving("other", ["team-*", "team-a"]) is None
    assert patterns_of(["team-a", "*", "team-*"]) == ("team-*", "*")
