"""A worker as a process of its own: signals, its parent, its threads, and nodes that do not end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog

from redrive.consumer.parent_pipe import Handover, parent_pipe, times_asked
from redrive.consumer.watchdog import Watchdog
from redrive.errors import (
    FencedError,
    KafkaLostError,
    SettingsError,
    StandstillError,
    StuckNodeError,
)
from redrive.graphs.contained import contain_exits
from redrive.graphs.langgraph_json import FileGraph, read_langgraph_json
from redrive.graphs.node_threads import NodeThreads, hear_stop_iterations
from redrive.settings import Settings
from redrive.telemetry.terminal import visible
from redrive.wiring.kafka_consumer import LangGraphKafkaConsumer

__all__ = ["run_worker"]

log = structlog.get_logger("redrive.worker")

_STOPPED_AT_ONCE = 130
_REFUSED = 2
_NODE_THREAD = "redrive-node"
# Of a process that cannot end the usual way; else the command line chooses.
_EXIT_CODES: Mapping[type, int] = {
    type(None): 0,
    FencedError: 4,
    KafkaLostError: 3,
    StuckNodeError: 75,
    StandstillError: 75,
}
_LAST_CALL_S = 1.0


def run_worker(
    settings: Settings,
    *,
    langgraph_json: Path | None = None,
    parent: Handover = Handover(),  # noqa: B008 - frozen
) -> int:
    """Run a worker until SIGTERM or SIGINT; a second signal ends the process at once.

    Returns:
        0, once it has stopped.
    """
    log.info("worker.starting", worker=settings.worker.id, delivery=settings.worker.delivery.value)
    # Sync nodes block a thread each; asyncio's own five or six would be the real limit.
    threads = NodeThreads(settings.worker.in_flight + 8, thread_name_prefix=_NODE_THREAD)
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(threads)
        contain_exits(runner.get_loop())
        hear_stop_iterations()
        watchdog = Watchdog(
            runner.get_loop(),
            limit_s=settings.worker.loop_timeout.total_seconds(),
            end=partial(_end_now, _EXIT_CODES[StuckNodeError]),
        )
        watchdog.start()
        try:
            started = runner.run(_run_worker(settings, langgraph_json, parent))
        except BaseException as error:
            watchdog.stop()
            _leave_stuck_nodes(runner, threads, error)
            raise
        watchdog.stop()
        if not started:
            # Nothing was begun. A thread of the start may ask Kafka for some seconds yet.
            _end_now(_EXIT_CODES[type(None)])
        _leave_stuck_nodes(runner, threads, None)
    return 0


async def _run_worker(settings: Settings, langgraph_json: Path | None, parent: Handover) -> bool:
    """Run it to its end; say whether it was ready before it was asked to stop."""
    graphs = None if langgraph_json is None else await asyncio.to_thread(_graphs, langgraph_json)
    loop = asyncio.get_running_loop()
    consumer = LangGraphKafkaConsumer(settings, graphs, parent=parent)
    pipe = parent_pipe()
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        pipe.read()
        if times_asked(signals=signals, forwarded=pipe.forwarded) > 1:
            log.warning("worker.stopped_at_once")
            os._exit(_STOPPED_AT_ONCE)
        consumer.request_stop()

    def on_parent(number: int) -> None:
        pipe.read()
        if pipe.is_gone:
            loop.remove_reader(number)
            log.warning("worker.parent_gone")
            consumer.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if pipe.number is not None:
        loop.add_reader(pipe.number, on_parent, pipe.number)
    await consumer.start()
    await consumer.wait()
    return consumer.was_ready


def _graphs(langgraph_json: Path) -> Mapping[str, FileGraph]:
    file = read_langgraph_json(langgraph_json).apply()
    file.log()
    return file.graphs


def _leave_stuck_nodes(
    runner: asyncio.Runner, threads: ThreadPoolExecutor, error: BaseException | None
) -> None:
    """End the process here and now if a node never returns: Python would wait for it for ever.

    What it did is settled by now, or left to the next worker. [P12]
    """
    threads.shutdown(wait=False, cancel_futures=True)
    nodes = [t for t in threading.enumerate() if t.name.startswith(_NODE_THREAD)]
    for thread in nodes:
        thread.join(_LAST_CALL_S / len(nodes))
    stuck = sum(thread.is_alive() for thread in nodes)
    deaf = 0 if isinstance(error, KeyboardInterrupt) else runner.run(_still_running())
    if isinstance(error, StandstillError):
        # What hangs in the Kafka client may hold up the usual end as well.
        _say_and_end(error, _EXIT_CODES[StandstillError])
    if stuck or deaf:
        log.warning(
            "worker.nodes_left_behind", threads=stuck, tasks=deaf, error=error and str(error)
        )
        if isinstance(error, SettingsError):
            # A start that is refused says so, although what it waits for cannot be ended.
            _say_and_end(error, _REFUSED)
        _end_now(_EXIT_CODES.get(type(error), 1))


def _say_and_end(error: BaseException, code: int) -> None:
    sys.stderr.writelines(f"redrive: {visible(line)}\n" for line in str(error).split("\n"))
    _end_now(code)


def _end_now(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _still_running() -> int:
    """Cancel what is left on the loop; return how many tasks do not listen."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if not tasks:
        return 0
    _, pending = await asyncio.wait(tasks, timeout=_LAST_CALL_S)
    return len(pending)
