"""Sending by the kit: what was not stored is told, so that no test judges fewer than it sent."""

from dataclasses import replace

import pytest
from tests.kafka.conftest import MakeStage

from redrive.testing.kafka_env import event
from redrive.testing.reading import read_topic


def test_events_are_all_stored_or_the_sender_says_how_many_are_not(make_stage: MakeStage) -> None:
    stage = make_stage()
    nowhere = replace(stage, topics=replace(stage.topics, events="nobody-has-made-it"))

    stage.send(event({"number": number}) for number in range(50))

    assert len(read_topic(stage.bootstrap_servers, stage.topics.events)) == 50
    with pytest.raises(TimeoutError, match="3 of 3 records were not stored"):
        nowhere.send(event({"number": number}) for number in range(3))
