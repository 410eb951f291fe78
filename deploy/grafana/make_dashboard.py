"""What the dashboard shows. It prints dashboard.json: run it after a change, and commit both.

    python deploy/grafana/make_dashboard.py > deploy/grafana/dashboard.json

Names, units and meanings of figures come from `redrive.telemetry.metrics`.
"""

from __future__ import annotations

import json
import sys

from asking import counted, of, quantile
from grafana_json import Kind, Panel, Query, Row, Variable, dashboard

from redrive.telemetry import metrics as m
from redrive.telemetry.instruments import Metric

# Units as Grafana calls them.
COUNT, SECONDS, BYTES, RATIO, PER_MINUTE = "short", "s", "bytes", "percentunit", "cpm"
FAILED = 'kind!="none"'
GIVEN_UP = 'ending=~"dead_lettered|expired"'


def lines(title: str, figure: Metric, unit: str, *queries: Query, more: str = "") -> Panel:
    """Return a panel of lines that means what its figure means."""
    return Panel(title, f"{figure.help} {more}".strip(), unit, queries)


HEALTH = Row(
    "Is it healthy now?",
    (
        Panel(
            "Workers that are ready",
            f"{m.READY.help} 0: nobody takes events in.",
            COUNT,
            (Query(f"sum({of(m.READY)}) or vector(0)"),),
            kind=Kind.NUMBER,
            width=4,
            green=1,
        ),
        Panel(
            "Runs given up",
            "Of the runs that ended lately, the part that ended as a dead letter, or expired.",
            RATIO,
            (
                Query(
                    f"(sum({counted(m.RUNS, GIVEN_UP)}) or vector(0)) / sum({counted(m.RUNS)})",
                ),
            ),
            kind=Kind.NUMBER,
            width=4,
            red=0.1,
        ),
        Panel(
            "Longest without a move",
            m.STUCK.help,
            SECONDS,
            (Query(f"max({of(m.STUCK)})"),),
            kind=Kind.NUMBER,
            width=4,
            red=900,
        ),
        Panel(
            "Slots taken",
            "Attempts that run now, of those that may. At 100% events wait for each other.",
            RATIO,
            (Query(f"sum({of(m.IN_FLIGHT)}) / sum({of(m.IN_FLIGHT_LIMIT)})"),),
            kind=Kind.NUMBER,
            width=4,
        ),
        Panel(
            "Alerts that fire",
            "The alerts of deploy/prometheus/alerts.yml; docs/alerts.md says what to do.",
            COUNT,
            (Query('ALERTS{alertname=~"Redrive.+", alertstate="firing"}'),),
            kind=Kind.TABLE,
        ),
    ),
    height=6,
)

FAILING = Row(
    "What is failing?",
    (
        Panel(
            "Runs that ended",
            m.RUNS.help,
            COUNT,
            (Query(f"sum by (workflow, ending) ({counted(m.RUNS)})", "{{workflow}} {{ending}}"),),
            stacked=True,
        ),
        Panel(
            "Dead letters",
            f"{m.LETTERS.help} What each reason means is in docs/reason-codes.md.",
            COUNT,
            (
                Query(
                    f"sum by (workflow, kind, reason) ({counted(m.LETTERS)})",
                    "{{workflow}} {{kind}} {{reason}}",
                ),
            ),
            stacked=True,
        ),
        lines(
            "New causes",
            m.NEW_CAUSES,
            COUNT,
            Query(f"sum by (workflow) ({counted(m.NEW_CAUSES)})", "{{workflow}}"),
            more="A step after a deployment is its doing; after a start a worker knows none yet. "
            "`redrive dlq groups --since` names them.",
        ),
        Panel(
            "Attempts that failed",
            f"{m.ATTEMPTS.help} Many that pass at a later attempt are the first sign of a service "
            "that gets worse.",
            COUNT,
            (
                Query(
                    f"sum by (workflow, kind) ({counted(m.ATTEMPTS, FAILED)})",
                    "{{workflow}} {{kind}}",
                ),
            ),
            stacked=True,
        ),
        lines(
            "Attempts by number",
            m.ATTEMPTS,
            COUNT,
            Query(f"sum by (number) ({counted(m.ATTEMPTS)})", "attempt {{number}}"),
        ),
        lines(
            "Redriven runs that ended",
            m.REDRIVEN,
            COUNT,
            Query(f"sum by (workflow, ending) ({counted(m.REDRIVEN)})", "{{workflow}} {{ending}}"),
        ),
        lines(
            "Signatures of events",
            m.EVENT_SIGNATURES,
            COUNT,
            Query(f"sum by (judged, key) ({counted(m.EVENT_SIGNATURES)})", "{{judged}} {{key}}"),
            more="`unsigned` is somebody without a key: see docs/security.md.",
        ),
        lines(
            "Observers that failed",
            m.OBSERVER_FAILURES,
            COUNT,
            Query(
                f"sum by (instance, observer) ({counted(m.OBSERVER_FAILURES)})",
                "{{instance}} {{observer}}",
            ),
        ),
    ),
)

SLOW = Row(
    "What is slow or stuck?",
    (
        lines(
            "From event to end",
            m.EVENT_AGE,
            SECONDS,
            Query(quantile(0.5, m.EVENT_AGE), "{{workflow}} half"),
            Query(quantile(0.95, m.EVENT_AGE), "{{workflow}} 95%"),
            more="Half of the runs, and 95%, ended within this.",
        ),
        lines(
            "Attempts in their graph",
            m.ATTEMPT_TIME,
            SECONDS,
            Query(quantile(0.5, m.ATTEMPT_TIME), "{{workflow}} half"),
            Query(quantile(0.95, m.ATTEMPT_TIME), "{{workflow}} 95%"),
            more="Half of the attempts, and 95%, took at most this.",
        ),
        lines(
            "Attempts that run",
            m.IN_FLIGHT,
            COUNT,
            Query(of(m.IN_FLIGHT), "{{instance}}"),
            Query(of(m.IN_FLIGHT_LIMIT), "{{instance}} limit"),
        ),
        lines(
            "Events of which nothing moves",
            m.STUCK,
            SECONDS,
            Query(f"max by (topic, partition) ({of(m.STUCK)}) > 0", "{{topic}}/{{partition}}"),
            more="Steps that only rise belong to an event that is stuck.",
        ),
        lines(
            "Oldest unfinished events",
            m.UNFINISHED,
            SECONDS,
            Query(f"max by (topic, partition) ({of(m.UNFINISHED)}) > 0", "{{topic}}/{{partition}}"),
        ),
        lines(
            "What waits, and for what",
            m.WAITING,
            COUNT,
            Query(f"sum by (for) ({of(m.WAITING)}) > 0", "{{for}}"),
        ),
        lines(
            "For how long it has waited",
            m.WAITING_FOR,
            SECONDS,
            Query(f"max by (for) ({of(m.WAITING_FOR)}) > 10", "{{for}}"),
        ),
        lines(
            "Until the next retry",
            m.NEXT_DUE,
            SECONDS,
            Query(of(m.NEXT_DUE), "{{instance}}"),
        ),
        lines(
            "Rests",
            m.RESTS,
            COUNT,
            Query(of(m.RESTS), "{{instance}}"),
            more="The log names the service: `workflow.rests`.",
        ),
        lines(
            "Threads that stand still",
            m.STILL,
            SECONDS,
            Query(of(m.STILL), "{{instance}} {{thread}}"),
            more="A node that blocks the event loop holds up all runs of its worker.",
        ),
        lines(
            "Window that is taken",
            m.WINDOW_USED,
            RATIO,
            Query(f"max by (topic, partition) ({of(m.WINDOW_USED)})", "{{topic}}/{{partition}}"),
        ),
    ),
)

LETTERS = Row(
    "Letters",
    (
        Panel(
            "Open letters",
            f"{m.OPEN.help} From `redrive dlq stats --prometheus`.",
            COUNT,
            (Query(f"max({m.OPEN.name})", "open"),),
        ),
        Panel(
            "Oldest open letter, of its retention",
            f"{m.OLDEST_OPEN.help} {m.RETENTION.help} At 100% Kafka deletes it.",
            RATIO,
            (Query(f"max({m.OLDEST_OPEN.name} / {m.RETENTION.name})", "oldest"),),
            red=0.8,
        ),
        lines(
            "Letters a minute",
            m.PER_MINUTE,
            PER_MINUTE,
            Query(f"max({m.PER_MINUTE.name})", "letters"),
        ),
        lines("Letters in the spool", m.SPOOLED, COUNT, Query(of(m.SPOOLED), "{{instance}}")),
        lines("Size of the spool", m.SPOOL_BYTES, BYTES, Query(of(m.SPOOL_BYTES), "{{instance}}")),
        lines(
            "Age of the figures of letters",
            m.LETTERS_READ,
            SECONDS,
            Query(f"time() - max({m.LETTERS_READ.name})", "age"),
            more="The panels above are as old.",
        ),
    ),
)

MACHINERY = Row(
    "The machinery",
    (
        Panel(
            "Workers",
            m.INFO.help,
            COUNT,
            (Query(of(m.INFO)),),
            kind=Kind.TABLE,
        ),
        lines(
            "Up for",
            m.STARTED,
            SECONDS,
            Query(f"time() - {of(m.STARTED)}", "{{instance}} {{process}}"),
            more="A line that falls to zero again and again is a worker that dies.",
        ),
        lines(
            "Events that a death may have cut",
            m.CRASHES,
            COUNT,
            Query(of(m.CRASHES), "{{instance}}"),
            more="As each new worker has found them, since its parent was started.",
        ),
        lines(
            "Settled batches",
            m.SETTLES,
            COUNT,
            Query(f"sum by (result) ({counted(m.SETTLES)})", "{{result}}"),
        ),
        lines(
            "Time to settle",
            m.SETTLE_TIME,
            SECONDS,
            Query(quantile(0.5, m.SETTLE_TIME), "half"),
            Query(quantile(0.99, m.SETTLE_TIME), "99%"),
        ),
        lines(
            "Endings that wait to be settled",
            m.SETTLING,
            COUNT,
            Query(of(m.SETTLING), "{{instance}}"),
        ),
        lines(
            "Producers replaced",
            m.PRODUCERS,
            COUNT,
            Query(f"increase({of(m.PRODUCERS)}[$window])", "{{instance}}"),
        ),
        lines(
            "Rebalances",
            m.REBALANCES,
            COUNT,
            Query(f"sum by (change) ({counted(m.REBALANCES)})", "{{change}}"),
        ),
        lines(
            "Events that no letter knows as its redrive",
            m.DISBELIEVED,
            COUNT,
            Query(f"sum({counted(m.DISBELIEVED)})", "events"),
        ),
        lines("Partitions held", m.PARTITIONS, COUNT, Query(of(m.PARTITIONS), "{{instance}}")),
        lines("Events in memory", m.BUFFERED, COUNT, Query(of(m.BUFFERED), "{{instance}}")),
        lines(
            "Bytes in memory",
            m.BUFFERED_BYTES,
            BYTES,
            Query(of(m.BUFFERED_BYTES), "{{instance}}"),
            Query(of(m.BUFFER_LIMIT), "{{instance}} limit"),
        ),
        lines(
            "For how long what stands in their way has been there",
            m.APART_FOR,
            SECONDS,
            Query(of(m.APART_FOR), "{{topic}} {{partition}} {{cause}}"),
        ),
        lines(
            "Most that a batch may hold",
            m.BATCH_LIMIT,
            BYTES,
            Query(of(m.BATCH_LIMIT), "{{instance}}"),
        ),
        lines(
            "For how long nothing has moved",
            m.STANDSTILL,
            SECONDS,
            Query(of(m.STANDSTILL), "{{instance}} {{for}}"),
        ),
        lines(
            "Events that wait without their bytes",
            m.LET_GO,
            COUNT,
            Query(of(m.LET_GO), "{{instance}}"),
        ),
    ),
)

VARIABLES = (
    Variable("job", "job", f"label_values({m.INFO.name}, job)", many=False),
    Variable("instance", "worker", f'label_values({m.INFO.name}{{job="$job"}}, instance)'),
    Variable("workflow", "workflow", f'label_values({m.RUNS.name}{{job="$job"}}, workflow)'),
)


def text() -> str:
    """Return dashboard.json."""
    made = dashboard(
        "redrive",
        uid="redrive-workers",
        description="Workers that run LangGraph graphs for events from Kafka, and dead letters.",
        variables=VARIABLES,
        rows=(HEALTH, FAILING, SLOW, LETTERS, MACHINERY),
    )
    return json.dumps(made, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
