"""Whatever comes from outside: what reads it ends with a value or an error of ours, in time."""

from __future__ import annotations

import random
import resource
import time
import traceback
from collections.abc import Iterator

import pytest
from tests.property.hostile_parsers import HAND_MADE, PARSERS, Parser, hostile_inputs
from tests.rows import try_each

SEED = 20_261_129
MAX_CPU_S = 5.0
"""Of one input. The longest takes a tenth of a second; what backtracks takes for ever."""
MAX_GROWTH_BYTES = 512 * 2**20


def failures(parser: Parser, count: int) -> Iterator[str]:
    """Yield what went wrong with each input that the parser neither took nor refused."""
    for value in hostile_inputs(parser.wholes, count, random.Random(SEED)):
        began_s = time.process_time()
        try:
            parser.parse(value)
        except parser.refusals:
            pass
        except BaseException as raised:  # noqa: BLE001 - the finding
            where = "".join(traceback.format_tb(raised.__traceback__)[-2:])
            yield f"{value[:200]!r}: {raised!r:.200} {where}"
        if time.process_time() - began_s > MAX_CPU_S:
            yield f"{value[:200]!r}: it took more than {MAX_CPU_S:g} s"


def tried(parser: Parser, count: int) -> None:
    for whole in parser.wholes:
        parser.parse(whole)
    assert list(failures(parser, count))[:3] == []


def highest_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# A pattern of the user's that Python has a hint for is taken all the same.
@pytest.mark.filterwarnings("ignore:Possible (nested )?set:FutureWarning")
@pytest.mark.invariant("P7")
@pytest.mark.parametrize("count", [150, pytest.param(5_000, marks=pytest.mark.nightly)])
def test_of_thousands_of_hostile_inputs_none_makes_a_parser_fall_over(count: int) -> None:
    assert len(PARSERS) > 25
    assert count > len(HAND_MADE)
    before_bytes = highest_bytes()

    try_each(((parser.name, parser) for parser in PARSERS), lambda parser: tried(parser, count))

    assert highest_bytes() - before_bytes < MAX_GROWTH_BYTES
