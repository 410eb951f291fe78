"""What the demo prints at its end: the table, what it means, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from redrive.consumer.worker_settings import DeliveryGuarantee
from redrive.demo.plan import NODES, PLAN, REFUSED_TOPIC, WORKFLOW, ExpectedRun
from redrive.demo.refused_topics import REFUSED_TOPICS_FILE
from redrive.demo.summary import LetterFacts, RunFacts, Summary
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.settings_sources import KNOWN_NAMES

__all__ = ["close", "show_next_steps"]

_COLUMNS = (
    "task",
    "Airflow",
    "answers",
    "attempts",
    "node executions",
    "least possible",
    "letters",
)
_GRAPH = f"{WORKFLOW}=redrive.demo.graph:graph"
_REFUSED = f'{{"topic": "{REFUSED_TOPIC}"}}'
_POLICY = "refused-topics.txt"


def close(summary: Summary, console: Console, *, differences: Sequence[str]) -> None:
    """Print the table and what it means; when all is well, say so."""
    console.print()
    console.print(_table(summary))
    console.print()
    if not differences:
        console.print(Text("All endings are as they should be.", style="green"))
    for line in _meaning(summary):
        console.print(Text(line))


def show_next_steps(summary: Summary, console: Console, *, kafka: KafkaSettings | None) -> None:
    """Print commands to try.

    Args:
        summary: Names the letters.
        console: Where to.
        kafka: The user's broker with the demo's topics, where events and letters are still found;
            None when all of it is gone.
    """
    console.print()
    for line in _next_steps(summary, kafka):
        # Never broken: to be copied.
        console.print(Text(line), soft_wrap=True)


def _table(summary: Summary) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False, header_style="bold")
    runs = {run.task: run for run in summary.runs}
    for expected in PLAN:
        table.add_row(*(Text(cell) for cell in _row(runs[expected.task], expected)))
    return table


def _row(run: RunFacts, expected: ExpectedRun) -> tuple[str, ...]:
    return (
        run.task,
        run.state or "-",
        ", ".join(answer.status for answer in run.answers) or "none",
        " + ".join(str(answer.attempts) for answer in run.answers) or "-",
        str(run.node_executions),
        str(expected.least),
        _letters(run),
    )


def _letters(run: RunFacts) -> str:
    states = ", ".join(letter.state for letter in run.letters)
    return f"{len(run.letters)} ({states})" if states else "0"


def _meaning(summary: Summary) -> Iterator[str]:
    for run in summary.runs:
        if any((answer.attempts or 0) > 1 for answer in run.answers):
            attempts = " + ".join(str(answer.attempts) for answer in run.answers)
            yield f"{run.task}: {attempts} attempts; executions {_by_node(run)}."
        for letter in run.letters:
            yield from _of_letter(run, letter)
    if summary.delivery == DeliveryGuarantee.AT_LEAST_ONCE.value:
        yield (
            "This broker has no transactions, so worker and redrive delivered at least once: after "
            "a crash an answer could come twice, or a letter be driven twice. With a real broker "
            "it is exactly once."
        )
    else:
        yield (
            "Answers, letters, offsets and the redriven event moved in Kafka transactions: "
            "exactly once."
        )


def _of_letter(run: RunFacts, letter: LetterFacts) -> Iterator[str]:
    whole = "holds" if letter.byte_exact else "does NOT hold"
    yield (
        f"{run.task}: letter {letter.dlq_id} ({letter.kind}, node {letter.node}); "
        f"it {whole} the event byte for byte."
    )
    driven = [answer for answer in run.answers if answer.redrive_count]
    for answer in driven:
        seen = "verified" if answer.resume_verified else "did NOT verify"
        yield (
            f"{run.task}: the cause was fixed and the letter driven again: {answer.status}; "
            f"executions in all {_by_node(run)}. The worker {seen} that no finished node ran again."
        )
    if driven and run.state == "failed":
        yield (
            f"{run.task}: Airflow's task stays failed: it ended with the first answer. The second "
            "lies on the results topic, and nobody waits for it. Clear the task, and it sends the "
            "same event again: while the run's checkpoints are kept, no node runs again for that, "
            "and the answer is the second one's."
        )


def _by_node(run: RunFacts) -> str:
    return ", ".join(f"{node} {(run.executions or {}).get(node, 0)}" for node in NODES)


def _next_steps(summary: Summary, kafka: KafkaSettings | None) -> Iterator[str]:
    policy = f"{REFUSED_TOPICS_FILE}={_POLICY}"
    if kafka is None:
        address = "localhost:9092"
        yield "Next, with a broker of your own (this one is gone, and the letter with it):"
        yield f"  redrive demo --bootstrap-servers {address}   # exactly once"
        yield f"  export KAFKA_BOOTSTRAP_SERVERS={address} {policy}   # in two terminals"
        yield "  redrive topics create"
    else:
        yield "Next (the demo's topics are still there, and nobody works on them):"
        yield f"  export {_as_variables(kafka)} {policy}"
        for letter in (letter for run in summary.runs for letter in run.letters):
            yield f"  redrive dlq show {letter.dlq_id}"
    yield f"  echo {REFUSED_TOPIC} > {_POLICY}"
    yield f"  redrive worker --graph {_GRAPH}"
    yield f"  redrive send {WORKFLOW} --data '{_REFUSED}' --wait"
    yield "  redrive dlq show ID   # of the letter that it names"
    yield f"  : > {_POLICY}   # fixes the cause"
    yield "  redrive dlq redrive ID"


def _as_variables(kafka: KafkaSettings) -> str:
    values = {
        variable: getattr(kafka, key.removeprefix("kafka."))
        for variable, key in KNOWN_NAMES.items()
        if key.startswith("kafka.")
    }
    return " ".join(f"{variable}={value}" for variable, value in values.items())
