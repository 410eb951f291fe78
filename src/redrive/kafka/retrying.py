"""How whatever is asked of Kafka is asked again: one policy, one judgement, and what to do.

The judgement is `redrive.retry`'s (its table is `retry/rules/kafka.py`). What cannot pass is raised
at once; all else is asked again until the caller's time is over. The settle thread, which may never
give up, takes `BACKOFF` and the judgement alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from redrive.clock import SYSTEM, Clock
from redrive.errors import KafkaUnavailableError, RedriveError, SettingsError
from redrive.kafka.kafka_settings import KafkaSettings
from redrive.retry import (
    Classifier,
    Exponential,
    FailedAttempt,
    Hooks,
    Kind,
    Retrier,
    RetryConfig,
    Rule,
    classify,
    retry,
)
from redrive.retry.retry_config import RETRYABLE
from redrive.retry.rules.kafka import is_tls_refusal

__all__ = [
    "BACKOFF",
    "Said",
    "advice",
    "ask",
    "error_of",
    "is_of_broker",
    "is_permanent",
    "refused",
    "step_of",
    "told",
    "until",
    "with_advice",
]

BACKOFF = Exponential(initial=0.1, base=2.0, maximum=2.0)
"""Seconds between two tries: 0.1, doubling to 2, each spread over its upper half."""

_AS_OFTEN_AS_TIME_ALLOWS = 1_000_000
_OURS = Rule(Kind.PERMANENT, error=RedriveError, name="redrive")

_T = TypeVar("_T")

log = structlog.get_logger("redrive.kafka")


def until(
    limit_s: float,
    *,
    asking: str,
    clock: Clock = SYSTEM,
    rules: tuple[Rule, ...] = (),
    waiting: Callable[[FailedAttempt], object] | None = None,
) -> Retrier:
    """Return the policy of one operation: try again until `limit_s` has passed.

    An error of redrive's own that is raised within is not retried.

    Args:
        limit_s: No try begins later than so many seconds after the first one.
        asking: What is asked, for the log.
        clock: The waits go through it.
        rules: What this operation judges in another way than the table does.
        waiting: Told before each wait; by default `kafka.asked_again` is logged.
    """

    def log_it(failed: FailedAttempt) -> None:
        log.warning("kafka.asked_again", asking=asking, **step_of(failed))

    return Retrier(
        RetryConfig(
            max_retries=_AS_OFTEN_AS_TIME_ALLOWS,
            max_delay=BACKOFF.maximum,
            backoff=BACKOFF,
            kind_retries={Kind.UNKNOWN: _AS_OFTEN_AS_TIME_ALLOWS},
            total_limit=max(limit_s, 0.0),
        ),
        hooks=Hooks(before_sleep=waiting or log_it),
        classifier=Classifier(rules=(_OURS, *rules), clock=clock),
        clock=clock,
        # A client's call blocks for longer than any wait: both belong into a thread.
        blocking=True,
    )


def step_of(failed: FailedAttempt) -> dict[str, object]:
    """Return what a log line says about an attempt after which another one follows."""
    error = failed.error
    text = error_of(error).str() if isinstance(error, KafkaException) else str(error)
    after_s = getattr(failed.decision, "after_s", 0.0)
    return {
        "attempt": failed.number,
        "after_s": round(after_s, 2),
        "kind": failed.failure.kind.value,
        "error": text,
    }


def error_of(exception: KafkaException) -> KafkaError:
    """Return the error that the client's exception carries."""
    error = exception.args[0] if exception.args else None
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError._FAIL, str(error))


def is_permanent(error: KafkaError) -> bool:
    """Say whether asking again cannot help, at least this client."""
    return classify(KafkaException(error)).kind not in RETRYABLE


# A generation, an epoch, a state that the broker does not know us by any more.
_OUR_STANDING = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.INVALID_TXN_STATE,
        KafkaError.PRODUCER_FENCED,
        KafkaError._FENCED,
        KafkaError._FATAL,
        KafkaError._STATE,
        KafkaError._PREV_IN_PROGRESS,
        KafkaError._INVALID_ARG,
    }
)


def is_of_broker(error: KafkaError | str) -> bool:
    """Say whether the broker has a reason of its own, which no new process of ours would change."""
    return isinstance(error, KafkaError) and error.code() not in _OUR_STANDING


class Said:
    """What librdkafka said about a client; goes in as its `on_error`.

    A call on a client that the broker does not let in just times out; who was refused, and why,
    comes by this way only. For one thread.

    Args:
        servers: Whom it is said of, for messages.
    """

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._errors: list[KafkaError] = []

    def __call__(self, error: KafkaError) -> None:
        """Take an error in."""
        self._errors.append(error)

    def forget(self) -> None:
        """Begin anew: what was said before does not count for what is asked next."""
        self._errors.clear()

    @property
    def refusal(self) -> SettingsError | None:
        """The first error that no waiting mends, as one that says what to do."""
        error = next((e for e in self._errors if is_permanent(e)), None)
        return None if error is None else refused(self._servers, error)

    def cause(self, raised: KafkaError) -> KafkaError:
        """Return the error that says most about a call that ended with `raised`."""
        telling = [e for e in self._errors if e.code() != KafkaError._ALL_BROKERS_DOWN]
        return telling[-1] if telling else raised


def ask(client: AdminClient | Consumer, said: Said, call: Callable[[], _T]) -> _T:
    """Make a call; if it fails, raise what is behind it.

    Args:
        client: Whose call it is.
        said: Its `on_error`.
        call: Must not ask for longer than a few seconds: only then the reason is looked at.

    Raises:
        SettingsError: The broker does not let this client in.
        KafkaException: It failed for another reason.
    """
    said.forget()
    try:
        return call()
    except KafkaException as silent:
        # The errors wait in the client's queue.
        client.poll(0)
        if said.refusal is not None:
            raise said.refusal from silent
        raise KafkaException(said.cause(error_of(silent))) from silent


def told(
    settings: KafkaSettings,
    call: Callable[[], _T],
    *,
    what: str,
    hint: str = "",
    clock: Clock = SYSTEM,
) -> _T:
    """Ask until the broker says it, for `kafka.startup_timeout`.

    Args:
        settings: Who is asked, and how long.
        call: Asks once; must not take longer than a few seconds.
        what: What is asked, as it stands behind "Kafka did not say".
        hint: What to look at as well, behind the error.
        clock: The waits go through it.

    Raises:
        KafkaUnavailableError: It did not say in time.
    """
    policy = until(settings.startup_timeout.total_seconds(), asking=what, clock=clock)
    try:
        return retry(policy)(call)()
    except KafkaException as error:
        raise KafkaUnavailableError(
            f"Kafka at {settings.bootstrap_servers} did not say {what}: "
            f"{with_advice(error_of(error))}{hint}"
        ) from error


def refused(servers: str, error: KafkaError) -> SettingsError:
    """Return the error of one whom the broker does not serve as it is set up."""
    return SettingsError(f"Kafka at {servers} refuses this client: {with_advice(error)}")


def with_advice(error: KafkaError) -> str:
    """Return what the error says and, where we know it, what to do."""
    do = advice(error)
    return f"{error.str()}: {do}" if do else error.str()


def advice(error: KafkaError) -> str | None:
    """Return what to do about an error; None when waiting is all there is, or nobody knows."""
    code = KafkaError._SSL if is_tls_refusal(error.str()) else error.code()
    return _ADVICE.get(code)


_LOG_IN = (
    "check sasl.mechanism, sasl.username and sasl.password in kafka.config, security.protocol, and "
    "that kafka.bootstrap_servers names the listener for them"
)
_SMALLER = (
    "make it smaller, or raise max.message.bytes of the topic, and message.max.bytes in "
    "kafka.config where that is lower"
)
_NO_TOPIC = (
    "create it with `redrive topics create`; a topic that is there and is not seen lacks the right "
    "Describe for this user"
)
_REPLICAS = (
    "fewer replicas are in sync than the topic's min.insync.replicas: bring the brokers back"
)
_ADVICE: dict[int, str] = {
    KafkaError._AUTHENTICATION: _LOG_IN,
    KafkaError.SASL_AUTHENTICATION_FAILED: _LOG_IN,
    KafkaError.UNSUPPORTED_SASL_MECHANISM: _LOG_IN,
    KafkaError.ILLEGAL_SASL_STATE: _LOG_IN,
    KafkaError._SSL: (
        "check ssl.ca.location in kafka.config (who signed the broker's certificate), the host "
        "name in kafka.bootstrap_servers (the certificate must bear it), and "
        "ssl.certificate.location and ssl.key.location if the broker asks for a certificate, and "
        "until when that is valid (a file that is renewed is read anew)"
    ),
    KafkaError._RESOLVE: "check the host names in kafka.bootstrap_servers",
    KafkaError._BAD_MSG: (
        "this may not be a Kafka broker: check the port in kafka.bootstrap_servers, and "
        "security.protocol in kafka.config"
    ),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (
        "grant this user its rights on the topic: Describe, Read or Write, Create to create it "
        "(kafka-acls.sh --add --allow-principal User:<name> --operation ... --topic ...)"
    ),
    KafkaError.GROUP_AUTHORIZATION_FAILED: (
        "grant this user the right Read on the group of kafka.group_id "
        "(kafka-acls.sh --add --allow-principal User:<name> --operation Read --group ...)"
    ),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (
        "grant this user its rights on the cluster: IdempotentWrite to write, Create to create "
        "topics (kafka-acls.sh --add --allow-principal User:<name> --operation ... --cluster)"
    ),
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (
        "grant this user the rights Write and Describe on its transactional id "
        "(kafka-acls.sh --add --allow-principal User:<name> --operation Write --operation Describe "
        "--transactional-id redrive. --resource-pattern-type prefixed)"
    ),
    KafkaError.INVALID_TRANSACTION_TIMEOUT: (
        "lower kafka.transaction_timeout, or raise transaction.max.timeout.ms of the broker"
    ),
    KafkaError.MSG_SIZE_TOO_LARGE: _SMALLER,
    KafkaError.INVALID_MSG_SIZE: _SMALLER,
    KafkaError.RECORD_LIST_TOO_LARGE: _SMALLER,
    KafkaError.UNKNOWN_TOPIC_OR_PART: _NO_TOPIC,
    KafkaError._UNKNOWN_TOPIC: _NO_TOPIC,
    KafkaError._UNKNOWN_PARTITION: _NO_TOPIC,
    KafkaError.TOPIC_EXCEPTION: "check the topics' names in kafka.*",
    KafkaError.INVALID_REPLICATION_FACTOR: "choose a smaller replication factor",
    KafkaError.POLICY_VIOLATION: "a policy of the cluster forbids it: ask who runs the brokers",
    KafkaError.NOT_ENOUGH_REPLICAS: _REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: _REPLICAS,
    KafkaError.KAFKA_STORAGE_ERROR: "a disk of the broker failed: see its log",
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE: "choose another compression.type in kafka.config",
    KafkaError.UNSUPPORTED_VERSION: "the broker is too old for this client: use a newer one",
    KafkaError._UNSUPPORTED_FEATURE: ("the broker is too old for this client: use a newer one"),
    KafkaError.GROUP_MAX_SIZE_REACHED: "run fewer workers, or raise group.max.size of the broker",
}
