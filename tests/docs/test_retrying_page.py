"""docs/retrying.md against the code: its kinds, defaults, delays and worked examples."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from redrive.retry import (
    Backoff,
    Decorrelated,
    Exponential,
    Fibonacci,
    Fixed,
    Kind,
    Linear,
    Reason,
    RetryConfig,
)

PAGE = (Path(__file__).parents[2] / "docs" / "retrying.md").read_text(encoding="utf-8")
STRATEGIES: dict[str, Backoff] = {
    "Exponential(jitter=False)": Exponential(jitter=False),
    "Exponential()": Exponential(),
    "Linear(jitter=False)": Linear(jitter=False),
    "Fixed()": Fixed(),
    "Fibonacci(jitter=False)": Fibonacci(jitter=False),
    "Decorrelated()": Decorrelated(),
}


def table(first_cell: str) -> list[list[str]]:
    """Return the rows of the one table whose heading begins with this cell."""
    found = re.findall(
        rf"^\| {first_cell} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE
    )
    assert len(found) == 1, f"{len(found)} tables begin with {first_cell!r}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[0].splitlines()]


def seconds(cell: str) -> float:
    return float(cell.removesuffix(" s"))


def test_every_kind_has_its_retries_by_default() -> None:
    told = {row[0].strip("`"): row[2] for row in table("kind")}

    assert told == {kind.value: str(RetryConfig().retries_for(kind)) for kind in Kind}


def test_every_field_of_the_policy_is_told_with_its_default() -> None:
    policy = RetryConfig()
    told = {row[0].strip("`"): row[1].strip("`") for row in table("field")}

    assert told == {field.name: repr(getattr(policy, field.name)) for field in fields(policy)}


def test_the_delays_of_each_strategy_are_those_that_it_computes() -> None:
    told = {row[0].strip("`"): row[1:] for row in table("strategy")}

    assert told == {name: delays(strategy) for name, strategy in STRATEGIES.items()}


def delays(strategy: Backoff) -> list[str]:
    ends = [(strategy.delay(number, 0.0), strategy.delay(number, 1.0)) for number in range(1, 9)]
    return [f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in ends]


@pytest.mark.parametrize("row", table("case"), ids=lambda row: row[0])
def test_the_worst_case_of_a_worked_example_is_the_one_that_its_values_give(row: list[str]) -> None:
    _, retries, initial, longest, waits_s, attempt, worst = row
    policy = RetryConfig(
        max_retries=int(retries),
        initial_delay=seconds(initial),
        max_delay=seconds(longest),
        jitter=False,
    )

    waits = sum(policy.delay(number, 0.0) for number in range(1, int(retries) + 1))

    assert waits == seconds(waits_s)
    assert waits + (int(retries) + 1) * seconds(attempt) == seconds(worst)


def test_the_layers_that_retry_multiply_to_what_is_told() -> None:
    *layers, (_, together, _) = table("layer")

    product = 1
    for _, attempts, _ in layers:
        product *= int(attempts)

    assert together == f"**{product}**"


def test_the_picture_names_the_reasons_that_decide_gives() -> None:
    picture = PAGE.partition("```text\n")[2].partition("```")[0]

    told = set(re.findall(r"`(\w+)`", picture)) - {"wait"}

    assert told == {
        Reason.PERMANENT,
        Reason.UNREADABLE,
        Reason.DEADLINE,
        Reason.RETRIES_EXHAUSTED,
    }
