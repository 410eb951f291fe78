"""Results that Airflow's own serialisers would act upon, or break at: told, and nobody's end."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.airflow.conftest import AirflowHome

SCRIPT = Path(__file__).parent / "hostile_results.py"
EQUAL = {"NUL", "plain", "largest"}


@pytest.mark.invariant("P1", "P7")
def test_no_result_ends_the_triggerer_or_arrives_as_something_else(
    bare_airflow: AirflowHome,
) -> None:
    told = json.loads(bare_airflow.run(sys.executable, str(SCRIPT)).splitlines()[-1])

    assert {name for name, what in told.items() if what == "equal"} == EQUAL
    assert all(what.startswith("refused: ") for name, what in told.items() if name not in EQUAL)
    assert "result.n is an integer of more than 64 bits" in told["int of 65 bits"]
    assert "result.a.0 has keys that Airflow reserves: __id__" in told["schema id"]
