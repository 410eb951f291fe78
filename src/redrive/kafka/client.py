"""What each Kafka client of ours is told: settings in, librdkafka options out.

Options that would break a promise are refused here, in `REFUSED`. Making the clients is
`redrive.kafka.connect`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from redrive.errors import SettingsError
from redrive.kafka.kafka_settings import GroupProtocol, KafkaSettings
from redrive.kafka.tokens import lacks_token, token_function
from redrive.secret_values import revealed
from redrive.telemetry.secret_names import is_secret_name

__all__ = [
    "ALIASES",
    "READ_AHEAD",
    "REFUSED",
    "ClientConfig",
    "admin_config",
    "consumer_config",
    "producer_config",
    "reader_config",
    "rereader_config",
]

ClientConfig = dict[str, object]

_OFFSETS_ONLY_BY_SETTLE = "offsets move only when their outcomes are stored"
_ONE_OWNER = "one worker must own the same partition of events and retries"
REFUSED: Mapping[str, str] = {
    "allow.auto.create.topics": "a misspelt topic would be created and silently stay empty",
    "acks": "an outcome counts only when every replica in sync has it",
    "bootstrap.servers": "set kafka.bootstrap_servers",
    "delivery.report.only.error": "a record counts as stored only when it is confirmed",
    "enable.auto.commit": _OFFSETS_ONLY_BY_SETTLE,
    "enable.auto.offset.store": _OFFSETS_ONLY_BY_SETTLE,
    "enable.idempotence": "a record that is sent again would be stored twice",
    "enable.partition.eof": "the readers of redrive set it themselves",
    "group.id": "set kafka.group_id",
    "group.instance.id": "set worker.id",
    "group.protocol": "set kafka.group_protocol",
    "group.remote.assignor": _ONE_OWNER,
    "oauth_cb": "set kafka.oauth",
    "isolation.level": "results of aborted transactions would be read",
    "max.poll.interval.ms": "set kafka.max_poll_interval",
    "partition.assignment.strategy": _ONE_OWNER,
    "partitioner": "a key must meet the partition where Java and aiokafka put it",
    "session.timeout.ms": "set kafka.session_timeout",
    "test.mock.num.brokers": "start redrive.kafka.embedded.EmbeddedBroker",
    "transaction.timeout.ms": "set kafka.transaction_timeout",
    "transactional.id": "redrive derives it from worker.id",
}
"""Options that `kafka.config` may not hold, and why, or what to set in place of them."""

ALIASES: Mapping[str, str] = {
    "compression.codec": "compression.type",
    "delivery.timeout.ms": "message.timeout.ms",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
    "metadata.broker.list": "bootstrap.servers",
    "queue.buffering.max.ms": "linger.ms",
    "request.required.acks": "acks",
}
"""librdkafka has two names for these. We use the second, so that a user's value replaces ours."""

_CLIENT: ClientConfig = {
    "client.id": "redrive",
    # 10 s by default: far too long to notice that a broker is back.
    "reconnect.backoff.max.ms": 2000,
}
_FETCH: ClientConfig = {
    # A resumed or a new partition waits for the fetch under way, which lasts so long when idle.
    "fetch.wait.max.ms": 100,
}
# librdkafka hands over a whole fetch of one partition before the next one's: small fetches let
# partitions take turns (R12), a bounded queue bounds the memory. The three go together: with
# a queue shorter than one fetch of small records, turns last 50,000 records instead of 9,000.
_FAIR: ClientConfig = {
    "max.partition.fetch.bytes": 256 * 1024,
    "queued.min.messages": 10_000,
    "queued.max.messages.kbytes": 32 * 1024,
    # 1 s by default: a short queue meets it all the time (8,000 records a second instead of
    # 700,000, measured).
    "fetch.queue.backoff.ms": 10,
}
READ_AHEAD: ClientConfig = {"queued.max.messages.kbytes": 16 * 1024, "fetch.queue.backoff.ms": 10}
"""Options of who reads much, and each record once: more ahead of it would only cost memory.

A short queue with the backoff's default, 1 s, would mean a second for each 16 MiB (measured).
"""

_HEARTBEAT = timedelta(seconds=3)
_SOCKET = timedelta(seconds=60)
"""librdkafka's own default of `socket.timeout.ms`."""
_LONGEST_SOCKET_MS = 300_000


def admin_config(settings: KafkaSettings) -> ClientConfig:
    """Return the options of an `AdminClient`.

    Raises:
        SettingsError: `kafka.config` holds an option that is refused.
    """
    return {
        **_client(settings),
        **_from_user(settings),
        "bootstrap.servers": settings.bootstrap_servers,
    }


def consumer_config(
    settings: KafkaSettings, *, member: str | None = None, read_committed: bool = True
) -> ClientConfig:
    """Return the options of a worker's `Consumer`: a member of the group that commits nothing.

    Args:
        settings: How to reach Kafka.
        member: The worker's stable id; None makes it a dynamic member (R19).
        read_committed: Whether records of open and aborted transactions are left out.

    Raises:
        SettingsError: `kafka.config` holds an option that is refused, or the times do not fit.
    """
    _check_times(settings)
    ours: ClientConfig = {"auto.offset.reset": "earliest", **_FETCH, **_FAIR}
    fixed: ClientConfig = {
        **_group(settings, read_committed=read_committed),
        # Only an end tells of what lies behind the last record: the ends of transactions.
        "enable.partition.eof": True,
        "max.poll.interval.ms": _ms(settings.max_poll_interval),
    }
    if settings.group_protocol is GroupProtocol.CLASSIC:
        beat = min(_HEARTBEAT, settings.session_timeout / 3)
        ours["heartbeat.interval.ms"] = max(1, _ms(beat))
        fixed["partition.assignment.strategy"] = "range"
        fixed["session.timeout.ms"] = _ms(settings.session_timeout)
    else:
        # The broker assigns, and says how long a session lasts.
        fixed["group.protocol"] = "consumer"
        fixed["group.remote.assignor"] = "range"
    if member is not None:
        fixed["group.instance.id"] = member
    return {**_client(settings), **ours, **_from_user(settings), **fixed}


def reader_config(settings: KafkaSettings, *, partition_eof: bool = False) -> ClientConfig:
    """Return the options of a `Consumer` that is assigned by hand: no member, no commits.

    It bears the group's name, since librdkafka wants one and the right to it is there already.

    Args:
        settings: How to reach Kafka.
        partition_eof: Whether the end of a partition is told, as a message with an error.

    Raises:
        SettingsError: `kafka.config` holds an option that is refused.
    """
    fixed: ClientConfig = {
        **_group(settings, read_committed=True),
        "enable.partition.eof": partition_eof,
    }
    return {
        **_client(settings),
        "auto.offset.reset": "earliest",
        **_FETCH,
        **_from_user(settings),
        **fixed,
    }


def rereader_config(settings: KafkaSettings) -> ClientConfig:
    """Return the options of a reader of single records, each at a position that is known.

    Args:
        settings: How to reach Kafka.

    Raises:
        SettingsError: `kafka.config` holds an option that is refused.
    """
    return {
        **reader_config(settings, partition_eof=True),
        # A position that is not there is told, and not replaced by another one.
        "auto.offset.reset": "error",
        # It seeks: what is read beyond a record that was asked for is thrown away.
        "max.partition.fetch.bytes": 256 * 1024,
        "queued.max.messages.kbytes": 4 * 1024,
        "fetch.queue.backoff.ms": 10,
        # A seek waits for the fetch under way.
        "fetch.wait.max.ms": 10,
    }


def producer_config(
    settings: KafkaSettings,
    *,
    transactional_id: str | None = None,
    timeout: timedelta | None = None,
    max_message_bytes: int | None = None,
    max_batch_bytes: int | None = None,
) -> ClientConfig:
    """Return the options of a `Producer`: idempotent, and each key where Java would put it.

    Args:
        settings: How to reach Kafka.
        transactional_id: Makes it transactional.
        timeout: How long a transaction may take, or a record without one, where that is longer
            than usual: on a slow link.
        max_message_bytes: The largest record that any of its topics takes.
        max_batch_bytes: The smallest `max.message.bytes` of its topics: the broker measures
            whole batches with it, so that many small records could be refused together.

    Raises:
        SettingsError: `kafka.config` holds an option that is refused.
    """
    ours: ClientConfig = {
        # Whoever reads must be able to: a plain aiokafka knows gzip only, and that costs too much
        # here. Where all readers know lz4, `kafka.config` may say so: JSON shrinks to a third.
        "compression.type": "none",
        # Outcomes come in bursts: 1 ms fills the batches, and a lone result hardly waits.
        "linger.ms": 1,
        # 30 s by default: a topic that was deleted would hold up everyone's batch for so long. Ours
        # were there at start, so none is new.
        "topic.metadata.propagation.max.ms": 3_000,
        "queue.buffering.max.kbytes": 128 * 1024,
    }
    if max_message_bytes is not None:
        ours["message.max.bytes"] = max_message_bytes
    if max_batch_bytes is not None:
        ours["batch.size"] = max_batch_bytes
    fixed: ClientConfig = {
        "bootstrap.servers": settings.bootstrap_servers,
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        "acks": "all",
    }
    timeout = timeout or timedelta(0)
    if timeout > _SOCKET:
        # A request that takes longer would be given up, and its connection with it.
        ours["socket.timeout.ms"] = min(_ms(timeout) - 100, _LONGEST_SOCKET_MS)
    if transactional_id is None:
        # 5 minutes by default: somebody waits for the answer.
        ours["message.timeout.ms"] = max(30_000, _ms(timeout))
    else:
        # The next transaction meets the end of the last one and waits so long (R18).
        ours["retry.backoff.ms"] = 1
        fixed["transactional.id"] = transactional_id
        fixed["transaction.timeout.ms"] = _ms(max(settings.transaction_timeout, timeout))
    return {**_client(settings), **ours, **_from_user(settings), **fixed}


def _client(settings: KafkaSettings) -> ClientConfig:
    age_ms = _ms(settings.metadata_max_age)
    return {
        **_CLIENT,
        # 5 minutes by default: new partitions would be neither read nor waited for.
        "topic.metadata.refresh.interval.ms": age_ms,
        "metadata.max.age.ms": 3 * age_ms,
    }


def _group(settings: KafkaSettings, *, read_committed: bool) -> ClientConfig:
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "group.id": settings.group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed" if read_committed else "read_uncommitted",
        "allow.auto.create.topics": False,
    }


def _from_user(settings: KafkaSettings) -> ClientConfig:
    given: ClientConfig = {}
    for option, value in settings.config.items():
        name = ALIASES.get(option, option)
        if name in REFUSED:
            raise SettingsError(f"kafka.config may not hold {option!r}: {REFUSED[name]}")
        given[name] = (
            revealed(value, key=f"kafka.config.{option}") if is_secret_name(option) else value
        )
    if settings.oauth is not None:
        given["oauth_cb"] = token_function(settings.oauth)
    elif lacks_token(given):
        raise SettingsError(
            "kafka.config says sasl.mechanism = OAUTHBEARER, and nothing gives a token: set "
            "kafka.oauth to a function of yours (module:function) or to "
            "redrive.kafka.tokens:msk_iam, or sasl.oauthbearer.method to oidc in kafka.config"
        )
    return given


def _check_times(settings: KafkaSettings) -> None:
    if settings.max_poll_interval < settings.session_timeout:
        raise SettingsError(
            f"kafka.max_poll_interval ({settings.max_poll_interval}) is shorter than "
            f"kafka.session_timeout ({settings.session_timeout}): make it at least as long"
        )


def _ms(value: timedelta) -> int:
    return round(value / timedelta(milliseconds=1))
