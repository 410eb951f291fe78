"""A service says: not before five seconds. Nothing of that workflow starts before; others do."""

import http.server
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redrive.testing.judging import gather, judge
from redrive.testing.stage import Stage, event

RETRY_AFTER_S = 5
IN_FLIGHT = 8
# From the reading of an answer to the worker's judgement of the attempt.
JUDGING_S = 0.5


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


class Answer(http.server.BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        wait_s = self.server.seconds_to_wait()
        self.send_response(429 if wait_s > 0 else 200)
        if wait_s > 0:
            self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


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
    make_stage: Callable[..., Stage], service: str
) -> None:
    stage = make_stage(
        partitions=2,
        SERVICE=service,
        REDRIVE_CHECKPOINTS__URL="none",
        REDRIVE_WORKER__IN_FLIGHT=str(IN_FLIGHT),
    )
    shutil.copy(Path(__file__).parent / "agents" / "limited.py", stage.folder)
    stage.send(event({"name": f"limited-{i}"}, workflow_id="limited") for i in range(40))
    stage.send(event({"name": f"free-{i}"}, workflow_id="free") for i in range(20))
    graphs = ("--graph", "limited=limited:limited", "--graph", "free=limited:free")

    with stage.worker("--worker-id", "w1", *graphs).running() as worker:
        stage.wait_settled(timeout_s=60)
        rests = [line["workflow_id"] for line in worker.events("workflow.rests")]
        assert worker.stop() == 0

    assert set(rests) == {"limited"}
    lines = [json.loads(line) for line in (stage.folder / "diary.jsonl").read_text().splitlines()]
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
    verdict = judge(gather(stage.bootstrap_servers, stage.topics))
    assert verdict.findings == []
    assert verdict.results == {"success": 60}
