"""`redrive doctor audit` on a real broker: clean where all is well, damage by its name.

Damage is done by hand, to topics that are filled by hand, and by a worker that is known to be bad.
"""

from __future__ import annotations

import json
import re
import shlex
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import AdminClient
from tests.kafka.conftest import MakeStage
from tests.kafka.dlq_commands import dlq
from typer.testing import CliRunner

from redrive.cli.app import app
from redrive.clock import SYSTEM
from redrive.dead_letter.record import DeadLetter, dlq_id
from redrive.dead_letter.states import STATE_HEADERS, LetterState, State
from redrive.events import ErrorInfo, EventPlace, ResultStatus, WorkflowEvent, WorkflowResultEvent
from redrive.kafka.client import producer_config
from redrive.kafka.connect import make_producer
from redrive.kafka.log import Committed, TopicPartition
from redrive.kafka.topic_admin import create_topics as create_missing
from redrive.kafka.topic_ids import topic_ids
from redrive.retry.kinds import Kind, Reason
from redrive.state.commit_metadata import CommitMetadata, LogIdentity, encode
from redrive.testing.created_topics import delete_topics, remake_topic
from redrive.testing.journal import read_journal
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import committed_offsets, end_offsets
from redrive.testing.stored_letters import dead_letter, store_letters
from redrive.testing.worker_process import wait_until

KNOWN_BAD = Path(__file__).parents[1] / "chaos" / "known_bad.py"
PAGE = Path(__file__).parents[2] / "docs" / "auditing.md"
GRAPH = ("--graph", "*=fates:quick")
FATES = {"success": 150, "transient": 20, "permanent": 20}
UNREADABLE, EXPIRED, SKIPPED = 5, 5, 5
LAST = 4

Told = dict[str, Any]


@pytest.fixture
def env(make_stage: MakeStage, command_at: Callable[[KafkaEnv], None]) -> KafkaEnv:
    made = make_stage(
        partitions=2, REDRIVE_CHECKPOINTS__URL="none", REDRIVE_RETRY__INITIAL_DELAY="100ms"
    )
    command_at(made)
    return made


@pytest.fixture
def filled(env: KafkaEnv) -> KafkaEnv:
    """Five events, the last one given up, all of it as a worker leaves it behind."""
    asked = [event({"n": n}) for n in range(LAST + 1)]
    env.send(asked, partition=0)
    answer(env, *asked[:LAST])
    letter = letter_of(env, asked[LAST], LAST)
    store_letters(env.kafka_settings(), [letter])
    answer(env, asked[LAST], letter=letter.dlq_id)
    commit(env, LAST + 1)
    env.folder.joinpath("asked").write_text(" ".join(e.event_id for e in asked))
    return env


@pytest.fixture
def audit_topic(env: KafkaEnv) -> Iterator[str]:
    topic = f"audit-{uuid.uuid4().hex[:8]}"
    kafka = env.kafka_settings().model_copy(update={"audit_topic": topic})
    create_missing(kafka, partitions=2)
    yield topic
    delete_topics(kafka.bootstrap_servers, [topic])


def audit(*arguments: str) -> tuple[int, Told]:
    result = CliRunner().invoke(app, ["doctor", "audit", *arguments, "--json"])
    return result.exit_code, json.loads(result.stdout)


def asked_of(env: KafkaEnv) -> list[str]:
    return env.folder.joinpath("asked").read_text().split()


def letter_of(env: KafkaEnv, asked: WorkflowEvent, offset: int) -> DeadLetter:
    return dead_letter(asked, topic=env.topics.events, offset=offset)


def answer(env: KafkaEnv, *asked: WorkflowEvent | str, letter: str | None = None) -> None:
    for one in asked:
        event_id = one if isinstance(one, str) else one.event_id
        write(env, env.topics.results, event_id, result(event_id, letter).to_bytes())


def result(event_id: str, letter: str | None) -> WorkflowResultEvent:
    info = None
    if letter is not None:
        info = ErrorInfo(
            kind=Kind.PERMANENT,
            type="ValueError",
            message="no",
            reason=Reason.PERMANENT,
            attempts=1,
            exhausted=False,
            dlq_id=letter,
        )
    return WorkflowResultEvent(
        correlation_id=event_id,
        workflow_id="fates",
        workflow_run_id="test-run",
        status=ResultStatus.SUCCESS if letter is None else ResultStatus.ERROR,
        timestamp=SYSTEM.now(),
        error_info=info,
    )


def write(env: KafkaEnv, topic: str, key: str, value: bytes, **more: Any) -> None:
    producer = make_producer(producer_config(env.kafka_settings()))
    producer.produce(topic, value, key, **more)
    assert producer.flush(30) == 0


def commit(env: KafkaEnv, offset: int, *, log: LogIdentity | None = None) -> None:
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    at = KafkaTopicPartition(
        env.topics.events,
        0,
        offset,
        metadata=encode(CommitMetadata(1, 1, offset=offset, log=log or LogIdentity())),
    )
    asked = [ConsumerGroupTopicPartitions(env.topics.group, [at])]

    def committed() -> bool:
        (future,) = admin.alter_consumer_group_offsets(asked).values()
        return all(part.error is None for part in future.result(timeout=30).topic_partitions)

    # A coordinator that was just chosen is not ready at once.
    wait_until(committed, timeout_s=60, what="the group's offset is set")


def committed_now(env: KafkaEnv) -> Mapping[TopicPartition, Committed]:
    return committed_offsets(env.bootstrap_servers, env.topics.events, env.topics.group)


def delete(env: KafkaEnv, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": env.bootstrap_servers})
    ends = end_offsets(env.bootstrap_servers, topic)
    asked = [KafkaTopicPartition(*tp, end) for tp, end in ends.items() if end]
    for future in admin.delete_records(asked).values():
        future.result(timeout=30)


def test_a_healthy_deployment_with_letters_and_a_redrive_is_clean(env: KafkaEnv) -> None:
    past = str(round((SYSTEM.now().timestamp() - 60) * 1000))
    env.send((event({}) for _ in range(EXPIRED)), headers={"redrive-deadline": past})
    env.send(event({"fate": fate}) for fate, count in FATES.items() for _ in range(count))
    env.send(b"{not JSON" for _ in range(UNREADABLE))
    kind = {"event_type": "workflow.completed"}
    env.send(event({}).model_copy(update=kind) for _ in range(SKIPPED))
    with env.worker(*GRAPH).running() as worker:
        env.wait_settled(timeout_s=120)
        driven = dlq("redrive", "--reason", "permanent", "--max", "3", "--yes", "--no-wait")
        env.wait_settled(timeout_s=60)
        assert worker.stop() == 0
    before = committed_now(env)

    code, told = audit("--since", "1h")

    assert (driven.exit_code, code, told["findings"]) == (0, 0, [])
    answered = sum(FATES.values()) + EXPIRED
    assert told["events"] == {"ended": answered + 3, "unreadable": UNREADABLE, "skipped": SKIPPED}
    assert told["results"] == {
        "success": FATES["success"] + FATES["transient"],
        "error": FATES["permanent"] + EXPIRED + 3,
    }
    assert told["letters"] == {"permanent": FATES["permanent"] + 3, "unreadable": UNREADABLE}
    assert told["letter_states"]["redriven"] == 3
    assert told["topics"][0]["records"] == answered + UNREADABLE + SKIPPED + 3
    assert committed_now(env) == before
    page = CliRunner().invoke(app, ["doctor", "audit"])
    assert "no promise was broken" in page.output
    assert "nothing was left out" in page.output


@pytest.mark.invariant("P14")
def test_what_a_worker_is_at_is_open_and_not_lost(env: KafkaEnv) -> None:
    with env.worker(*GRAPH).running() as worker:
        env.send([event({"fate": "sleep", "seconds": 30.0}) for _ in range(3)])
        env.send([event({}) for _ in range(40)])
        wait_until(
            lambda: audit()[1]["results"].get("success") == 40,
            timeout_s=60,
            what="the quick ones are answered",
        )

        code, told = audit()

        assert (code, told["findings"]) == (0, [])
        assert told["events"] == {"ended": 40, "open": 3}
        worker.kill()


@pytest.mark.invariant("P2", "P3", "P6")
def test_a_log_that_began_anew_is_named_and_only_what_is_there_is_judged(env: KafkaEnv) -> None:
    topic, servers = env.topics.events, env.bootstrap_servers
    admin = AdminClient({"bootstrap.servers": servers})
    cluster = admin.list_topics(timeout=30).cluster_id
    before = LogIdentity.of(cluster, topic_ids(admin, [topic], timeout_s=30)[topic])
    old, new = [event({"n": n}) for n in range(3)], event({})
    letter = letter_of(env, old[2], 2)
    store_letters(env.kafka_settings(), [letter])
    for at, one in enumerate(old):
        answer_record(env, one, at, letter=letter.dlq_id if at == 2 else None)
    remake_topic(servers, topic, partitions=2)

    # As a worker does that has not heard of it.
    commit(env, 3, log=before)
    env.send([new], partition=0)
    of_commit = audit()
    page = CliRunner().invoke(app, ["doctor", "audit"])
    answer_record(env, new, 0)
    commit(env, 1)
    of_results = audit()

    assert (of_commit[0], of_commit[1]["findings"]) == (0, [])
    assert of_commit[1]["events"] == {"open": 1}
    assert (
        "what the group has committed (3) belongs to the earlier topic"
        in of_commit[1]["began_anew"][0]
    )
    assert "started over, so earlier records cannot be audited:" in page.output
    assert (of_results[0], of_results[1]["findings"]) == (0, [])
    assert of_results[1]["events"] == {"ended": 1}
    assert "3 results name records that do not exist" in of_results[1]["began_anew"][0]
    hidden = " ".join(of_results[1]["could_not_see"])
    assert "3 results of events that lay in a log before" in hidden
    assert "1 letters of events that lay in a log before" in hidden


def answer_record(
    env: KafkaEnv, asked: WorkflowEvent, offset: int, *, letter: str | None = None
) -> None:
    """Answer an event as a worker does, which names the record."""
    tp = EventPlace(topic=env.topics.events, partition=0, offset=offset)
    named = result(asked.event_id, letter).model_copy(update={"answers": tp})
    write(env, env.topics.results, asked.event_id, named.to_bytes())


def second_result(env: KafkaEnv) -> str:
    answer(env, asked_of(env)[1])
    return asked_of(env)[1]


def missing_result(env: KafkaEnv) -> str:
    sent = event({})
    env.send([sent], partition=0)
    commit(env, LAST + 2)
    return sent.event_id


def altered_letter(env: KafkaEnv) -> str:
    sent = event({})
    env.send([sent], partition=0)
    altered = letter_of(env, sent.model_copy(update={"source": "another"}), LAST + 1)
    store_letters(env.kafka_settings(), [altered])
    answer(env, sent, letter=altered.dlq_id)
    commit(env, LAST + 2)
    return altered.dlq_id


def missing_letter(env: KafkaEnv) -> str:
    sent = event({})
    env.send([sent], partition=0)
    letter = dlq_id(env.topics.events, 0, LAST + 1, count=0)
    answer(env, sent, letter=letter)
    commit(env, LAST + 2)
    return letter


def second_letter(env: KafkaEnv) -> str:
    asked = event({}).model_copy(update={"event_id": asked_of(env)[LAST]})
    letter = letter_of(env, asked, LAST)
    store_letters(env.kafka_settings(), [letter])
    return letter.dlq_id


def letter_of_nothing(env: KafkaEnv) -> str:
    letter = letter_of(env, event({}), LAST + 7)
    store_letters(env.kafka_settings(), [letter])
    return letter.dlq_id


def unasked_result(env: KafkaEnv) -> str:
    sent = event({})
    answer(env, sent)
    return sent.event_id


def offset_behind(env: KafkaEnv) -> str:
    commit(env, LAST)
    return asked_of(env)[LAST]


def offset_beyond(env: KafkaEnv) -> str:
    commit(env, 1_000)
    return "1000"


def lost_redrive(env: KafkaEnv) -> str:
    letter = dlq_id(env.topics.events, 0, LAST, count=0)
    driven = LetterState(
        dlq_id=letter,
        event_id=asked_of(env)[LAST],
        state=State.REDRIVEN,
        timestamp=SYSTEM.now(),
        actor="anna",
        redrive_count=1,
    )
    write(env, env.topics.dlq, "k", driven.to_bytes(), headers=[*STATE_HEADERS], partition=0)
    return letter


@pytest.mark.invariant("P1", "P2", "P3", "P6", "P13")
@pytest.mark.parametrize(
    ("damage", "promise", "text"),
    [
        (second_result, "P2", "doubled: event {} has 2 results for 1 record(s)"),
        (missing_result, "P1", "lost: event {} has 0 results for 1 record(s)"),
        (altered_letter, "P6", "letter {} is not byte-equal"),
        pytest.param(
            missing_letter,
            "P6",
            "lost: a result names the letter {}, which does not exist",
            marks=pytest.mark.nightly,
        ),
        pytest.param(second_letter, "P2", "doubled: 2 letters", marks=pytest.mark.nightly),
        pytest.param(
            letter_of_nothing,
            "P6",
            "letter {} is of a record that does not exist",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            unasked_result,
            "P2",
            "a result for event {}, which was never sent",
            marks=pytest.mark.nightly,
        ),
        (offset_behind, "P3", "event {} is answered, and the group's offset is not past it"),
        pytest.param(
            offset_beyond, "P3", "is committed at {}, and ends at 5", marks=pytest.mark.nightly
        ),
        (lost_redrive, "P13", "letter {} was redriven, but the new event does not exist"),
    ],
)
def test_damage_is_found_as_the_promise_that_it_breaks(
    damage: Callable[[KafkaEnv], str], promise: str, text: str, filled: KafkaEnv
) -> None:
    assert audit()[0] == 0

    about = damage(filled)

    code, told = audit()
    (found, *_) = [one for one in told["findings"] if text.format(about) in one["what"]]
    assert (code, found["promise"]) == (1, promise)
    page = CliRunner().invoke(app, ["doctor", "audit"])
    assert page.exit_code == 1
    assert found["look"] is None or found["look"] in page.output
    if promise == "P1":
        assert len(told["findings"]) == 1


def test_the_commands_of_the_page_run(
    filled: KafkaEnv, audit_topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del filled  # what they look at
    monkeypatch.setenv("REDRIVE_KAFKA__AUDIT_TOPIC", audit_topic)
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]

    codes = [CliRunner().invoke(app, arguments).exit_code for _, *arguments in commands]

    assert len(codes) >= 3
    assert set(codes) == {0}


@pytest.mark.parametrize("topic", ["events", "results", "dlq"])
def test_what_was_deleted_is_told_as_not_seen(topic: str, filled: KafkaEnv) -> None:
    delete(filled, getattr(filled.topics, topic))

    code, told = audit()

    assert (code, told["findings"]) == (0, [])
    hidden = {
        "events": "5 results whose events may be older",
        "results": "5 events whose results may be older",
        "dlq": "1 results whose letters may be older",
    }
    assert any(line.startswith(hidden[topic]) for line in told["could_not_see"])
    assert any("offsets were deleted from it" in line for line in told["could_not_see"])


def test_events_before_the_window_are_not_judged(filled: KafkaEnv) -> None:
    missing_result(filled)
    later = SYSTEM.now() + timedelta(seconds=2)
    wait_until(lambda: SYSTEM.now() > later, timeout_s=60, what="it is later")

    code, told = audit("--since", later.isoformat())

    assert (code, told["findings"], told["topics"][0]["records"]) == (0, [], 0)
    assert told["could_not_see"][0].startswith("events before ")


def test_a_second_answer_is_allowed_where_workers_deliver_at_least_once(
    filled: KafkaEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_result(filled)
    monkeypatch.setenv("REDRIVE_WORKER__DELIVERY", "at_least_once")

    code, told = audit()

    assert (code, told["findings"], told["doubled_as_allowed"]) == (0, [], 1)
    assert any("at_least_once" in line for line in told["could_not_see"])


def test_an_event_that_was_published_twice_may_be_answered_twice(filled: KafkaEnv) -> None:
    again = event({}).model_copy(update={"event_id": asked_of(filled)[0]})
    filled.send([again], partition=0)
    answer(filled, again)
    commit(filled, LAST + 2)

    code, told = audit()

    assert (code, told["findings"]) == (0, [])


def test_a_group_that_has_committed_nothing_leaves_nothing_to_judge(
    filled: KafkaEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRIVE_KAFKA__GROUP_ID", f"{filled.topics.group}-typo")

    result = CliRunner().invoke(app, ["doctor", "audit"])

    assert result.exit_code == 2
    assert "has committed nothing" in result.output


def test_a_topic_that_is_not_there_is_named(
    env: KafkaEnv,  # noqa: ARG001 - the broker
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDRIVE_KAFKA__RESULTS_TOPIC", "no-such-topic")

    result = CliRunner().invoke(app, ["doctor", "audit"])

    assert result.exit_code == 2
    assert "topic 'no-such-topic' does not exist" in result.output


@pytest.mark.invariant("P1")
def test_a_worker_that_commits_before_it_settles_is_caught(env: KafkaEnv) -> None:
    bad = env.worker(
        *GRAPH, program=(str(KNOWN_BAD),), environ={"BAD": "commits_before_it_settles"}
    )
    long = {"fate": "sleep", "seconds": 60.0}
    with bad.running():
        env.send([event(long) for _ in range(4)], partition=0)
        begun = lambda: len(read_journal(env.folder / "executions.log")) >= 4  # noqa: E731
        wait_until(begun, timeout_s=60, what="all have begun")
        # A commit comes with what is settled.
        env.send([event({})], partition=0)
        wait_until(lambda: audit()[1]["counts"], timeout_s=60, what="something is found")
        bad.kill()

    code, told = audit()

    assert (code, told["counts"]) == (1, {"P1": 4})
