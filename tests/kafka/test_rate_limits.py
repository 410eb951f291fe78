"""A service says: not before five seconds, or not before a day. Whom that holds back."""

import http.server
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.kafka.dlq_commands import letters, run

from redrive.events import WorkflowResultEvent
from redrive.testing.judging import gather, judge
from redrive.testing.kafka_env import KafkaEnv, event
from redrive.testing.reading import read_topic
from redrive.testing.worker_process import wait_until

RETRY_AFTER_S = 5
IN_FLIGHT = 8
# From the reading of an answer to the worker's judgement of the attempt.
JUDGING_S = 0.5
A_DAY_S = 86_400
LONGEST_REST_S = 20


class Service(http.server.ThreadingHTTPServer):
    """Refuses everyone for five seconds from the first call on."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.opens_at: float | None = None
        self.lock = threading.Lock()

    def seconds_to_wait(self) -> float:
        with self.lock:
            if self.opens_at is None:
                self.opens_at = time.monotonic() + RETRY_AFTER_S
            return self.opens_at - time.monotonic()


class Quiet(http.server.BaseHTTPRequestHandler):
    def answer(self, retry_after: str | None) -> None:
        self.send_response(200 if retry_after is None else 429)
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Answer(Quiet):
    server: Service

    def do_GET(self) -> None:
        self.answer(str(RETRY_AFTER_S) if self.server.seconds_to_wait() > 0 else None)


class AsAsked(Quiet):
    """Refuses who asks for it, and nobody else."""

    def do_GET(self) -> None:
        (after,) = parse_qs(urlsplit(self.path).query).get("after", [None])
        self.answer(after)


@pytest.fixture
def obedient() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), AsAsked) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def service() -> Iterator[str]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.invariant("P7", "P10")
def test_a_rate_limit_holds_back_its_workflow_until_its_retry_after_and_no_other(
    make_stage: Callable[..., KafkaEnv], service: str
) -> None:
    env = make_stage(
        partitions=2,
        SERVICE=service,
        REDRIVE_CHECKPOINTS__URL="none",
        REDRIVE_WORKER__IN_FLIGHT=str(IN_FLIGHT),
    )
    shutil.copy(Path(__file__).parent / "agents" / "limited.py", env.folder)
    env.send(event({"name": f"limited-{i}"}, workflow_id="limited") for i in range(40))
    env.send(event({"name": f"free-{i}"}, workflow_id="free") for i in range(20))
    graphs = ("--graph", "limited=limited:limited", "--graph", "free=limited:free")

    with env.worker("--worker-id", "w1", *graphs).running() as worker:
        env.wait_settled(timeout_s=60)
        rests = [line["workflow_id"] for line in worker.events("workflow.rests")]
        assert worker.stop() == 0

    assert set(rests) == {"limited"}
    lines = [json.loads(line) for line in (env.folder / "diary.jsonl").read_text().splitlines()]
    read = min(line["at"] for line in lines if line["what"] == "answered 429")
    began = sorted(line["at"] for line in lines if line["what"] == "began")
    before = [at for at in began if at <= read + JUDGING_S]
    after = [at for at in began if at > read + JUDGING_S]
    assert len(before) <= IN_FLIGHT
    assert min(after) >= read + RETRY_AFTER_S
    refused_later = [
        line for line in lines if line["what"] == "answered 429" and line["at"] > read + 4
    ]
    assert refused_later == []
    free = [line["at"] for line in lines if line["what"] == "ended"]
    assert len(free) == 20
    assert max(free) < read + RETRY_AFTER_S
    verdict = judge(gather(env.bootstrap_servers, env.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": 60}


def diary(env: KafkaEnv) -> list[dict[str, object]]:
    file = env.folder / "diary.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def answers(env: KafkaEnv) -> list[WorkflowResultEvent]:
    records = read_topic(env.bootstrap_servers, env.topics.results)
    return [WorkflowResultEvent.from_bytes(record.value) for record in records]


def wait_for_answers(env: KafkaEnv, count: int) -> None:
    wait_until(
        lambda: len(answers(env)) >= count,
        timeout_s=60,
        what=f"{count} answers",
        every_s=0.3,
        progress=lambda: len(answers(env)),
    )


@pytest.mark.invariant("P1", "P6", "P7", "P8", "P10")
def test_a_day_holds_one_run_over_a_restart_and_who_expires_meanwhile_can_be_driven_again(
    make_stage: Callable[..., KafkaEnv], obedient: str
) -> None:
    env = make_stage(
        partitions=1,
        SERVICE=f"http://{obedient}",
        REDRIVE_RETRY__LONGEST_REST=str(LONGEST_REST_S),
        REDRIVE_CHECKPOINTS__URL="none",
    )
    shutil.copy(Path(__file__).parent / "agents" / "limited.py", env.folder)
    graphs = ("--graph", "limited=limited:limited", "--graph", "free=limited:free")
    refused = event({"name": "refused", "after": str(A_DAY_S)}, workflow_id="limited")

    with env.worker("--worker-id", "w1", *graphs).running() as worker:
        worker.wait_for("partition.assigned")
        env.send([refused])
        rests = worker.wait_for("workflow.rests")
        # Its ending goes with a commit that remembers what has happened before it.
        env.send([event({"name": "free-0"}, workflow_id="free")])
        wait_for_answers(env, 1)
        worker.kill()

        worker.start()
        again = worker.wait_for("workflow.rests")
        soon = str(round((time.time() + 2) * 1000))
        late = [event({"name": f"late-{i}"}, workflow_id="limited") for i in range(3)]
        env.send(late, headers={"redrive-deadline": soon})
        env.send(event({"name": f"patient-{i}"}, workflow_id="limited") for i in range(3))
        env.send(event({"name": f"free-{i}"}, workflow_id="free") for i in range(1, 4))
        wait_for_answers(env, 10)
        code, out, error = run(env, "redrive", "--reason", "expired_resting", "--yes")
        assert code == 0, out + error
        wait_for_answers(env, 13)
        assert worker.stop() == 0

    assert (rests["dependency"], rests["asked_s"]) == (obedient, A_DAY_S)
    assert (again["dependency"], again["workflow_id"]) == (obedient, "limited")
    lines = diary(env)
    (said,) = [float(str(line["at"])) for line in lines if line["what"] == "answered 429"]
    began = {line["name"]: float(str(line["at"])) for line in lines if line["what"] == "began"}
    first, *others = sorted(began[f"patient-{i}"] for i in range(3))
    # One goes first, a tenth before the end. Notes tell whole seconds: never earlier ones.
    assert first >= said + 0.9 * LONGEST_REST_S
    assert min(others) >= said + LONGEST_REST_S
    assert [line["name"] for line in lines if line["what"] == "began"].count("refused") == 1

    given_up = letters(env)
    assert {letter.reason.value for letter in given_up} == {"expired_resting"}
    assert {letter.original_event["event_id"] for letter in given_up if letter.original_event} == {
        each.event_id for each in late
    }
    assert len({letter.fingerprint for letter in given_up}) == 1
    for letter in given_up:
        assert obedient in letter.error.message
        assert "before 20" in letter.error.message
    told = {answer.correlation_id: answer.status.value for answer in answers(env)}
    assert {told[each.event_id] for each in late} == {"success"}
    assert refused.event_id not in told

    verdict = judge(gather(env.bootstrap_servers, env.topics))
    waiting = (refused.event_id, "is committed at 0", "its note still speaks of offsets")
    assert [f for f in verdict.findings if not any(known in f for known in waiting)] == []
    assert verdict.results == {"success": 10, "error": 3}
    assert verdict.letters == {"expired_resting": 3}
