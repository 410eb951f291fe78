"""From settings to living parts: the only place that puts them together."""

from __future__ import annotations

from redrive.wiring.kafka_consumer import LangGraphKafkaConsumer
from redrive.wiring.parts import build_worker
from redrive.wiring.process import run_worker

__all__ = ["LangGraphKafkaConsumer", "build_worker", "run_worker"]
