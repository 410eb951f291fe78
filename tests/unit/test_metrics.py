"""Figures: what is counted, how it is told, and that reading disturbs nobody."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from tests.rows import rows
from tests.unit.test_redact import SECRETS

from redrive.consumer.end_metrics import MOST_CAUSES, EndMetrics
from redrive.consumer.observing import AttemptEnd
from redrive.consumer.outcome import Account, Ending
from redrive.events import ErrorInfo
from redrive.kafka.log import TopicPartition
from redrive.retry.kinds import Kind, Reason
from redrive.telemetry import metrics as definitions
from redrive.telemetry.exposition import MetricsCollector, exposition
from redrive.telemetry.instruments import (
    BoundedLabels,
    Counter,
    Histogram,
    Metric,
    MetricType,
    Sample,
)
from redrive.telemetry.metrics import LETTER_FIGURES, WORKER_FIGURES, Metrics

EVERY = (*WORKER_FIGURES, *LETTER_FIGURES)
PLACE = TopicPartition("events", 0)
UNITS = {"seconds", "bytes", "ratio"}


def of(metrics: Metrics, metric: Metric) -> Sample:
    (sample,) = [sample for sample in metrics.read() if sample.metric is metric]
    return sample


def letters_audit(**more: object) -> Account:
    error = ErrorInfo(
        kind=Kind.PERMANENT,
        type="ValueError",
        message="no",
        reason=Reason.PERMANENT,
        attempts=1,
        exhausted=False,
    )
    account = Account(PLACE, 5, Ending.DEAD_LETTERED, workflow_id="report", error=error)
    return account._replace(**more)  # type: ignore[arg-type]  # a test's own fields


def failed_of(fingerprint: str | None, *, node: str = "", workflow: str = "report") -> Account:
    account = letters_audit(workflow_id=workflow)
    assert account.error is not None
    told = {"fingerprint": fingerprint, "node": node}
    return account._replace(error=account.error.model_copy(update=told))


def test_a_cause_is_new_once_and_one_without_a_fingerprint_goes_by_what_it_says() -> None:
    metrics = Metrics()
    observer = EndMetrics(metrics)

    observer.settled([failed_of("f1"), failed_of("f1"), failed_of("f2", workflow="billing")])
    observer.settled([failed_of("f1"), failed_of(None), failed_of(None), failed_of(None, node="n")])

    assert of(metrics, definitions.NEW_CAUSES).values == {("report",): 3, ("billing",): 1}


@pytest.mark.invariant("P11")
def test_a_flood_of_causes_makes_no_other_workflow_forget_its_own() -> None:
    metrics = Metrics()
    observer = EndMetrics(metrics)

    observer.settled([failed_of("old", workflow="billing"), failed_of("first")])
    observer.settled([failed_of(str(n)) for n in range(10 * MOST_CAUSES)])
    observer.settled([failed_of("old", workflow="billing"), failed_of("new", workflow="billing")])
    observer.settled([failed_of("first")])

    # What was seen least recently went first, and is new when it comes again.
    counted = 10 * MOST_CAUSES + 2
    assert of(metrics, definitions.NEW_CAUSES).values == {("report",): counted, ("billing",): 2}


@pytest.mark.invariant("P11", "P14")
def test_workflows_that_no_graph_serves_are_one_and_take_nobodys_place() -> None:
    metrics = Metrics()
    metrics.workflows.know(["report"], is_known=lambda name: name.startswith("re"))
    observer = EndMetrics(metrics)

    observer.settled([failed_of(str(n), workflow=f"made-up-{n}") for n in range(1_000)])
    observer.settled([failed_of("x", workflow="refund"), failed_of("x", workflow="report")])

    assert of(metrics, definitions.NEW_CAUSES).values == {
        ("unknown",): 1_000,
        ("refund",): 1,
        ("report",): 1,
    }


@rows("metric", EVERY, ids=lambda metric: metric.name)
def test_a_figure_is_named_as_prometheus_wants_it(metric: Metric) -> None:
    stem = metric.name.removesuffix("_total")

    assert re.fullmatch(r"redrive(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") is (metric.type is MetricType.COUNTER)
    assert (metric.unit in UNITS) is any(stem.endswith(f"_{unit}") for unit in UNITS)
    assert bool(metric.bounds) is (metric.type is MetricType.HISTOGRAM)
    assert list(metric.bounds) == sorted(set(metric.bounds))
    assert metric.help.endswith(".")


def test_no_name_is_given_twice_and_none_is_left_out_of_the_lists() -> None:
    made = [found for found in vars(definitions).values() if isinstance(found, Metric)]

    assert len({metric.name for metric in made}) == len(made)
    assert set(made) == set(EVERY)


def test_endings_are_counted_by_workflow_and_letters_by_cause() -> None:
    metrics = Metrics()
    success = Account(PLACE, 6, Ending.SUCCEEDED, workflow_id="report", age_s=0.2)
    redriven = success._replace(redrive_count=1, age_s=90_000.0)

    EndMetrics(metrics).settled(
        [success, redriven, letters_audit(), letters_audit(workflow_id=None)]
    )

    assert of(metrics, definitions.RUNS).values == {
        ("report", "succeeded"): 2,
        ("report", "dead_lettered"): 1,
        ("", "dead_lettered"): 1,
    }
    assert of(metrics, definitions.REDRIVEN).values == {("report", "succeeded"): 1}
    assert of(metrics, definitions.LETTERS).values == {
        ("report", "permanent", "permanent"): 1,
        ("", "permanent", "permanent"): 1,
    }
    (ages,) = of(metrics, definitions.EVENT_AGE).spreads.values()
    assert (sum(ages.counts), ages.sum) == (1, 0.2)


def test_attempts_are_counted_by_kind_and_by_a_few_numbers() -> None:
    metrics = Metrics()
    observer = EndMetrics(metrics)

    for number in (1, 2, 5, 6, 10, 11, 500):
        observer.attempt_ended(AttemptEnd("report", "e", number, kind=Kind.TIMEOUT, took_s=3.0))
    observer.attempt_ended(AttemptEnd("report", "e", 501, kind=None, took_s=4.0))

    assert of(metrics, definitions.ATTEMPTS).values == {
        ("report", "timeout", "1"): 1,
        ("report", "timeout", "2"): 1,
        ("report", "timeout", "5"): 1,
        ("report", "timeout", "6-10"): 2,
        ("report", "timeout", "more"): 2,
        ("report", "none", "more"): 1,
    }
    (times,) = of(metrics, definitions.ATTEMPT_TIME).spreads.values()
    assert times.sum == 25.0


def test_names_from_outside_stay_few_and_known_ones_are_never_among_the_rest() -> None:
    names = BoundedLabels(at_most=2)
    names.know(["graph"])

    seen = [names.of(name) for name in ("a", "b", "c", "a", "graph", None, "x" * 10_000)]

    assert seen == ["a", "b", "other", "a", "graph", "", "other"]


@pytest.mark.invariant("P15")
@rows("secret", SECRETS)
def test_a_name_that_holds_a_secret_is_told_without_it(secret: str) -> None:
    names = BoundedLabels(at_most=5)

    told = {names.of(f"report {secret}") for _ in range(2)}

    assert len(told) == 1
    assert SECRETS[secret] not in str(told)


def test_a_name_that_is_too_long_takes_no_place() -> None:
    names = BoundedLabels(at_most=1)

    assert [names.of("x" * 201), names.of("a")] == ["other", "a"]


def everything() -> Metrics:
    """Return metrics with a value in each counted figure, and hostile label values."""
    metrics = Metrics()
    for name in ('a"b\\c\nd', "ärger", ""):
        EndMetrics(metrics).settled([letters_audit(workflow_id=name, age_s=1.0)])
    EndMetrics(metrics).attempt_ended(AttemptEnd("a", "e", 1, kind=None, took_s=0.3))
    metrics.settle_time.observe(99.0)
    return metrics


def test_what_is_scraped_is_read_back_as_it_was() -> None:
    body, content_type = exposition(everything().read)

    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    runs = {sample.labels["workflow"]: sample.value for sample in families["redrive_runs"].samples}
    settles = families["redrive_settle_seconds"].samples
    assert content_type.startswith("text/plain; version=0.0.4")
    assert runs == {'a"b\\c\nd': 1.0, "ärger": 1.0, "": 1.0}
    # Beyond the last bound it is in the last bucket alone.
    assert [s.value for s in settles if s.name.endswith("_bucket")] == [0.0] * 13 + [1.0]
    assert [s.value for s in settles if s.name.endswith("_sum")] == [99.0]


def test_who_asks_for_openmetrics_gets_it() -> None:
    accept = "application/openmetrics-text; version=1.0.0"

    body, content_type = exposition(everything().read, accept=accept)

    names = {line.split()[2] for line in body.decode().splitlines() if line[:6] == "# TYPE"}
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert "redrive_runs" in names
    assert body.endswith(b"# EOF\n")


def test_a_program_of_your_own_registers_the_collector_where_it_likes() -> None:
    registry, metrics = CollectorRegistry(), Metrics()
    registry.register(MetricsCollector(metrics.read))
    metrics.runs.add("report", "succeeded")
    labels = {"workflow": "report", "ending": "succeeded"}

    assert registry.get_sample_value("redrive_runs_total", labels) == 1.0
    assert REGISTRY.get_sample_value("redrive_runs_total", labels) is None


def test_a_source_is_looked_up_whenever_somebody_asks() -> None:
    metrics, asked = Metrics(), [0]

    def source() -> Iterator[Sample]:
        asked[0] += 1
        yield Sample(definitions.RESTS, {(): asked[0]})

    metrics.add_source(source)

    assert [of(metrics, definitions.RESTS).values for _ in range(2)] == [{(): 1}, {(): 2}]


def test_reading_while_another_thread_counts_new_labels_raises_nothing_and_loses_nothing() -> None:
    count, spread = Counter(definitions.RUNS), Histogram(definitions.EVENT_AGE)

    def work() -> None:
        for number in range(50_000):
            count.add(str(number), "succeeded")
            spread.observe(0.1, str(number))

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        seen = len(count.read().values)
        assert len(spread.read().spreads) >= seen - 1
    thread.join()

    assert len(count.read().values) == len(spread.read().spreads) == 50_000
