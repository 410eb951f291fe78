"""One letter, by its id or that of its event; that there are others is told."""

from __future__ import annotations

from redrive.cli.exits import CommandError, ExitCode
from redrive.cli.output import note, visible
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.redriving.letters_topic import LetterStory, find_stories
from redrive.signatures import NO_TRUST, Verifier

__all__ = ["newest_story"]


def newest_story(
    kafka: KafkaSettings, wanted: str, verifier: Verifier = NO_TRUST.verifier
) -> LetterStory:
    """Return the newest letter with this `dlq_id` or `event_id`; of others, tell the person.

    Those that nobody vouches for count as older than all others.

    Raises:
        CommandError: There is none.
    """
    found = find_stories(kafka, wanted, verifier)
    if not found:
        raise CommandError(
            ExitCode.ENDED_BADLY,
            f"no letter with the dlq_id or event_id {wanted!r} on {kafka.dlq_topic!r} "
            f"at {kafka.bootstrap_servers}",
        )
    newest = found[-1]
    others = dict.fromkeys(story.stored.letter.dlq_id for story in found)
    others.pop(newest.stored.letter.dlq_id)
    if others:
        named = ", ".join(map(visible, others))
        note(f"the newest of {len(others) + 1} letters; the others: {named}")
    return newest
