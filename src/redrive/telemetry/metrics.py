"""Every figure that redrive tells, by name; nothing else makes up one.

docs/metrics.md is made from this file. A figure of a worker that is counted belongs to one thread,
which writes it; one that is looked up is read from whoever owns the number, when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from redrive.telemetry.instruments import (
    BoundedLabels,
    Counter,
    Histogram,
    Merge,
    Metric,
    MetricType,
    Sample,
)

__all__ = ["LETTER_FIGURES", "WORKER_FIGURES", "Metrics"]

MOST_WORKFLOWS = 50
"""So many workflow ids are told apart beside those of registered graphs; the rest is `other`."""

_COUNTER, _GAUGE, _HISTOGRAM = MetricType.COUNTER, MetricType.GAUGE, MetricType.HISTOGRAM
_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WORK = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_WAIT = (*_WORK, 3600.0, 14_400.0, 86_400.0)

# What ended: counted when it is durable.
RUNS = Metric(
    "redrive_runs_total",
    _COUNTER,
    "Events that ended, by how: `succeeded`, `failed` (the graph said so), `dead_lettered`, "
    "`expired`, `skipped`. Counted when the ending is durable.",
    labels=("workflow", "ending"),
)
LETTERS = Metric(
    "redrive_letters_total",
    _COUNTER,
    "Dead letters that are stored, by the kind of the failure and the reason code.",
    labels=("workflow", "kind", "reason"),
)
NEW_CAUSES = Metric(
    "redrive_new_causes_total",
    _COUNTER,
    "Causes of dead letters (fingerprints) that this worker met for the first time since its "
    "start. It remembers 500 of each workflow, those seen last; one that was forgotten is new.",
    labels=("workflow",),
)
REDRIVEN = Metric(
    "redrive_redriven_runs_total",
    _COUNTER,
    "Of the events that ended, those that a redrive had sent back to work.",
    labels=("workflow", "ending"),
)
EVENT_SIGNATURES = Metric(
    "redrive_event_signatures_total",
    _COUNTER,
    "Events that were taken in, by their signature: `signed`, `unsigned`, `wrong`, `not_allowed`; "
    "`key` is that of a signature that fits. Not counted with `security.require = off`.",
    labels=("judged", "key"),
)
EVENT_AGE = Metric(
    "redrive_event_to_end_seconds",
    _HISTOGRAM,
    "From an event's own timestamp to its end, by the two machines' clocks. Redriven events, "
    "whose timestamp is that of the first time, are left out.",
    labels=("workflow",),
    unit="seconds",
    bounds=_WAIT,
)

# Attempts: counted when they end.
ATTEMPTS = Metric(
    "redrive_attempts_total",
    _COUNTER,
    "Attempts that ended, by the kind of their failure (`none` if the graph ended) and by which "
    "attempt of its run it was: `1` to `5`, `6-10`, `more`.",
    labels=("workflow", "kind", "number"),
)
ATTEMPT_TIME = Metric(
    "redrive_attempt_seconds",
    _HISTOGRAM,
    "How long an attempt was in its graph.",
    labels=("workflow",),
    unit="seconds",
    bounds=_WORK,
)

# What is going on now.
IN_FLIGHT = Metric("redrive_attempts_in_flight", _GAUGE, "Attempts that run now.")
IN_FLIGHT_LIMIT = Metric(
    "redrive_attempts_in_flight_limit", _GAUGE, "How many may run at the same time."
)
WAITING = Metric(
    "redrive_waiting",
    _GAUGE,
    "How much waits, by [what it waits for](running-a-worker.md#what-a-worker-waits-for).",
    labels=("for",),
)
WAITING_FOR = Metric(
    "redrive_waiting_seconds",
    _GAUGE,
    "For how long something has waited for this without a break; 0 where nothing does. Of what "
    "comes and goes all the time (`slot`, `suspicion`, `reservation`, `record`, `batch`, "
    "`commit`), for how long none of it has gone on.",
    labels=("for",),
    unit="seconds",
    merge=Merge.MAX,
)
NEXT_DUE = Metric(
    "redrive_retry_next_due_seconds",
    _GAUGE,
    "How long until the first run that waits for its time (`retry`) is due; below zero, how long "
    "it waits for a slot. Not there when none does.",
    unit="seconds",
    merge=Merge.MIN,
)
RESTS = Metric(
    "redrive_rests",
    _GAUGE,
    "Dependencies, and workflows whose failures named none, that rest now after a rate limit.",
)
BUFFERED = Metric("redrive_buffered_events", _GAUGE, "Events taken in that have not ended.")
BUFFERED_BYTES = Metric(
    "redrive_buffered_bytes",
    _GAUGE,
    "What they hold in memory, about: as bytes, parsed, and as outcomes that are not durable yet.",
    unit="bytes",
)
BUFFER_LIMIT = Metric(
    "redrive_buffer_limit_bytes",
    _GAUGE,
    "Where nothing more starts; at half of it fetching pauses (`worker.buffer`).",
    unit="bytes",
)
LET_GO = Metric(
    "redrive_events_let_go",
    _GAUGE,
    "Events that wait, and whose bytes are not in memory: they are read again when it is their "
    "turn.",
)
PARTITIONS = Metric("redrive_partitions_held", _GAUGE, "Partitions that this worker works on.")
WINDOW_USED = Metric(
    "redrive_ledger_window_ratio",
    _GAUGE,
    "How much of the window past the committed offset is taken; at 1 nothing more of the "
    "partition starts.",
    labels=("topic", "partition"),
    unit="ratio",
    merge=Merge.MAX,
)
UNFINISHED = Metric(
    "redrive_oldest_unfinished_seconds",
    _GAUGE,
    "For how long the partition's lowest unfinished offset has been the same one, whether its run "
    "goes on or not; 0 when nothing is unfinished.",
    labels=("topic", "partition"),
    unit="seconds",
    merge=Merge.MAX,
)
STUCK = Metric(
    "redrive_stuck_seconds",
    _GAUGE,
    "Of that time, for how long nothing of that event moved: no node progressed, no attempt began "
    "or ended, and no planned wait was running.",
    labels=("topic", "partition"),
    unit="seconds",
    merge=Merge.MAX,
)

# Settling, the group, deaths.
SETTLES = Metric(
    "redrive_settles_total",
    _COUNTER,
    "Batches of results, letters and offsets, by what came of them: `stored`, `aborted` (settled "
    "again), `in_doubt` (read back, and then one of the other two).",
    labels=("result",),
)
SETTLE_TIME = Metric(
    "redrive_settle_seconds",
    _HISTOGRAM,
    "From handing a batch to the settle thread to its being durable.",
    unit="seconds",
    bounds=_QUICK,
)
SETTLING = Metric("redrive_settles_waiting", _GAUGE, "Endings that are not durable yet.")
APART_FOR = Metric(
    "redrive_settle_obstacle_seconds",
    _GAUGE,
    "For how long endings have waited for this partition, or for the topic where `partition` is "
    "empty.",
    labels=("topic", "partition", "cause"),
    unit="seconds",
    merge=Merge.MAX,
)
BATCH_LIMIT = Metric(
    "redrive_settle_batch_limit_bytes",
    _GAUGE,
    "How large a batch may be now: 4 MiB, less on a link that did not carry that in time.",
    unit="bytes",
    merge=Merge.MIN,
)
PRODUCERS = Metric(
    "redrive_producer_replacements_total",
    _COUNTER,
    "Producers that were thrown away after a call that failed or hung.",
)
REBALANCES = Metric(
    "redrive_rebalances_total",
    _COUNTER,
    "Times that partitions came or went: `assigned`, `revoked`, `lost`.",
    labels=("change",),
)
CRASHES = Metric(
    "redrive_crashes_total",
    _COUNTER,
    "Events that may have been running when a process died, found when their partition was "
    "assigned; each counts towards `retry.max_crashes`.",
)
DISBELIEVED = Metric(
    "redrive_disbelieved_redrives_total",
    _COUNTER,
    "Events that claimed to drive a letter which does not say so: they ran as any other event.",
)
SPOOLED = Metric(
    "redrive_spooled_letters",
    _GAUGE,
    "Letters in the spool file, whether or not Kafka has taken them meanwhile.",
    merge=Merge.MAX,
)
SPOOL_BYTES = Metric(
    "redrive_spool_bytes",
    _GAUGE,
    "The size of the spool file.",
    unit="bytes",
    merge=Merge.MAX,
)

# The worker itself.
INFO = Metric(
    "redrive_worker_info",
    _GAUGE,
    "Always 1: which worker this is.",
    labels=("version", "worker", "group", "delivery"),
    merge=Merge.MAX,
)
STARTED = Metric(
    "redrive_worker_start_time_seconds",
    _GAUGE,
    "When this worker was started, in seconds since 1970; another time after each death. `process` "
    "is its number under its parent, from 0.",
    labels=("process",),
    unit="seconds",
    merge=Merge.MAX,
)
READY = Metric(
    "redrive_worker_ready",
    _GAUGE,
    "Whether this worker is ready, as `/readyz` says: 1 if so.",
    labels=("process",),
    merge=Merge.MIN,
)
STILL = Metric(
    "redrive_still_seconds",
    _GAUGE,
    "For how long the event loop, and the thread that polls, have not moved.",
    labels=("thread",),
    unit="seconds",
    merge=Merge.MAX,
)
STANDSTILL = Metric(
    "redrive_standstill_seconds",
    _GAUGE,
    "For how long what this worker waits for has not moved though Kafka is there: `settling`, "
    "`offsets` (committed ones, to be read), `group`, `polling`. Beyond "
    "`worker.standstill` the process ends, to be replaced.",
    labels=("for",),
    unit="seconds",
    merge=Merge.MAX,
)
OBSERVER_FAILURES = Metric(
    "redrive_observer_failures_total",
    _COUNTER,
    "Calls of those who watch the worker that failed, by class; the worker went on.",
    labels=("observer",),
)

# Of the letters topic, which no worker reads: `redrive dlq stats --prometheus`.
OPEN = Metric("redrive_letters_open", _GAUGE, "Letters that nobody has dealt with.")
OLDEST_OPEN = Metric(
    "redrive_letters_oldest_open_seconds",
    _GAUGE,
    "The age of the oldest open letter; 0 when there is none.",
    unit="seconds",
)
RETENTION = Metric(
    "redrive_letters_retention_seconds",
    _GAUGE,
    "How long the topic keeps a letter (`letters.retention`).",
    unit="seconds",
)
PER_MINUTE = Metric(
    "redrive_letters_per_minute",
    _GAUGE,
    "Letters that came, over the last ten minutes, in whatever state they are now.",
)
LETTERS_READ = Metric(
    "redrive_letters_read_timestamp_seconds",
    _GAUGE,
    "When these figures were read from the topic, in seconds since 1970.",
    unit="seconds",
)

LETTER_FIGURES = (OPEN, OLDEST_OPEN, RETENTION, PER_MINUTE, LETTERS_READ)
WORKER_FIGURES = (
    RUNS,
    LETTERS,
    NEW_CAUSES,
    REDRIVEN,
    EVENT_SIGNATURES,
    EVENT_AGE,
    ATTEMPTS,
    ATTEMPT_TIME,
    IN_FLIGHT,
    IN_FLIGHT_LIMIT,
    WAITING,
    WAITING_FOR,
    NEXT_DUE,
    RESTS,
    BUFFERED,
    BUFFERED_BYTES,
    BUFFER_LIMIT,
    LET_GO,
    PARTITIONS,
    WINDOW_USED,
    UNFINISHED,
    STUCK,
    SETTLES,
    SETTLE_TIME,
    SETTLING,
    APART_FOR,
    BATCH_LIMIT,
    PRODUCERS,
    REBALANCES,
    CRASHES,
    DISBELIEVED,
    SPOOLED,
    SPOOL_BYTES,
    INFO,
    STARTED,
    READY,
    STILL,
    STANDSTILL,
    OBSERVER_FAILURES,
)


class Metrics:
    """What one worker counts, and where the rest is looked up.

    Each count belongs to the thread that is named; reading is for any thread, and waits for none.
    """

    def __init__(self) -> None:
        self.workflows = BoundedLabels(at_most=MOST_WORKFLOWS)
        # The event loop's.
        self.runs = Counter(RUNS)
        self.letters = Counter(LETTERS)
        self.new_causes = Counter(NEW_CAUSES)
        self.redriven = Counter(REDRIVEN)
        self.event_signatures = Counter(EVENT_SIGNATURES)
        self.event_age = Histogram(EVENT_AGE)
        self.attempts = Counter(ATTEMPTS)
        self.attempt_time = Histogram(ATTEMPT_TIME)
        self.observer_failures = Counter(OBSERVER_FAILURES)
        # The poll thread's.
        self.settles = Counter(SETTLES)
        self.settle_time = Histogram(SETTLE_TIME)
        self.rebalances = Counter(REBALANCES)
        self.crashes = Counter(CRASHES)
        # The settle thread's.
        self.producers = Counter(PRODUCERS)
        self._sources: list[Callable[[], Iterable[Sample]]] = []

    def add_source(self, source: Callable[[], Iterable[Sample]]) -> None:
        """Let further figures be looked up whenever somebody asks.

        `source` is called on the asker's thread. It must not block, nor touch a Kafka client.
        """
        self._sources.append(source)

    def read(self) -> Iterator[Sample]:
        """Return every figure as it is now."""
        for instrument in (
            self.runs,
            self.letters,
            self.new_causes,
            self.redriven,
            self.event_signatures,
            self.event_age,
            self.attempts,
            self.attempt_time,
            self.settles,
            self.settle_time,
            self.producers,
            self.rebalances,
            self.crashes,
            self.observer_failures,
        ):
            yield instrument.read()
        for source in tuple(self._sources):
            yield from source()
