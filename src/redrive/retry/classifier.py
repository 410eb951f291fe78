"""Judging an exception: which kind of failure it is, and how long to wait. Deciding is elsewhere.

For each exception, in this order: its own word (`__redrive_kind__`), your rules, codes (Kafka, SQL,
gRPC, AWS, MCP, providers), classes of known libraries, HTTP status, `is_retryable`, the standard
library and errno, the code in an answer over which a client failed, and last Python's general
classes. The first that says something decides.

Of a chain, the first exception that says something for certain decides; a ValueError, say, is not
certain, and neither is what was only being handled at the time, unless it can be retried. Of an
exception group, the member that can least be retried decides (`SEVERITY`), and the longest wait; of
alternatives, the one that can best be retried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice

from redrive.clock import SYSTEM, Clock
from redrive.retry.chain import MAX_BEHIND, CauseLink, links
from redrive.retry.kinds import Failure, Kind, Reason
from redrive.retry.retry_after import limit_reset_of, retry_after_of
from redrive.retry.retry_config import RETRYABLE
from redrive.retry.rule import Rule
from redrive.retry.rules import agents, databases, google, grpc, http, kafka, models, services
from redrive.retry.rules.agents import ALTERNATIVES
from redrive.retry.rules.codes import (
    STREAMING,
    VALIDATION,
    read_answer,
    read_code,
    read_stream,
    read_written,
)
from redrive.retry.rules.limits import read_daily, read_hopeless
from redrive.retry.rules.models import read_attribute, read_provider
from redrive.retry.rules.rule_verdict import (
    RuleVerdict,
    by_class,
    class_names,
    is_bare,
    look,
    look_str,
    members_of,
    short_name,
)
from redrive.retry.rules.system import read_bug, read_standard

__all__ = [
    "CLASSES",
    "SEVERITY",
    "UNANSWERED",
    "Classifier",
    "classify",
    "is_transient_error",
    "reason_of",
]

SEVERITY = (
    Kind.CANCELLED,
    Kind.POISON,
    Kind.PERMANENT,
    Kind.UNKNOWN,
    Kind.RATE_LIMITED,
    Kind.TIMEOUT,
    Kind.TRANSIENT,
)
"""Which member of an exception group decides: the first of these. If one of them cannot succeed, or
was told to stop, trying the others again does not help."""

CLASSES: dict[str, Kind] = {
    **http.CLASSES,
    **models.CLASSES,
    **agents.CLASSES,
    **databases.CLASSES,
    **services.CLASSES,
    **google.CLASSES,
    **grpc.CLASSES,
    **kafka.CLASSES,
}
"""The classes of known libraries, as `package.Class`."""

_ANY: frozenset[str] = frozenset()
# Asked in this order, before the standard library's classes; each of errors of these classes.
_READERS: tuple[tuple[Callable[[BaseException], RuleVerdict | None], frozenset[str]], ...] = (
    (kafka.read_kafka, kafka.ERRORS),
    (databases.read_database, _ANY),
    (google.read_google, google.ERRORS),
    (grpc.read_grpc, grpc.ERRORS),
    (services.read_aws, _ANY),
    (agents.read_mcp, agents.ERRORS),
    (read_code, _ANY),
    (read_provider, _ANY),
    (http.read_proxy, http.PROXIED),
    (read_written, VALIDATION),
    (partial(by_class, table=CLASSES), _ANY),
    (read_stream, STREAMING),
    (http.read_status, _ANY),
    (read_attribute, _ANY),
)

_STOPS = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit, SystemExit)
_TLS = "ssl.SSLError"
# They stand for any failure of TLS, a certificate or a connection that broke in its handshake,
# and may name no cause: what was being handled is it.
_TLS_WRAPPERS = frozenset(
    f"class:{name}"
    for name in (
        "botocore.SSLError",
        "redis.ConnectionError",
        "requests.SSLError",
        "urllib3.SSLError",
    )
)
MAX_GROUPS = 100
UNANSWERED = Failure(Kind.UNKNOWN, None, "it did not answer in time", "undecided")
"""An exception that does not return when it is asked for its text, say."""


def classify(exc: BaseException, *, clock: Clock = SYSTEM) -> Failure:
    """Judge an exception by the built-in tables.

    Args:
        exc: The exception, as it was caught.
        clock: Read only when a service names the moment to come back as a date.
    """
    return Classifier(clock=clock).classify(exc)


def is_transient_error(exc: BaseException) -> bool:
    """Say whether trying again can help: a passing fault, a rate limit, or a timeout.

    An OSError is not transient by itself: a missing file stays missing.
    """
    return classify(exc).kind in RETRYABLE - {Kind.UNKNOWN}


def reason_of(exc: BaseException) -> Reason | None:
    """Return the reason code that the exception, a cause of it or a member of a group names."""
    try:
        return _reason_of(exc, _Examined())
    except BaseException:  # noqa: BLE001 - what it is made of is the user's
        return None


class _Examined:
    """What one look at an exception has seen: each group once, and no more links than may be.

    Groups may share members at any depth, and each member may have a chain of its own: without a
    limit, 24 small groups are millions of ways. [P7]
    """

    def __init__(self) -> None:
        self._left = MAX_BEHIND
        self._groups: set[int] = set()

    def new(self, chain: Iterable[CauseLink]) -> list[CauseLink]:
        found = list(islice(chain, max(self._left, 1)))
        self._left -= len(found)
        return found

    def enters(self, group: BaseException) -> bool:
        is_new = id(group) not in self._groups and len(self._groups) < MAX_GROUPS
        self._groups.add(id(group))
        return is_new

    def may(self, members: Iterable[BaseException]) -> Iterator[BaseException]:
        for member in members:
            # Each group is looked into once, wherever else it is a member.
            if self._left > 0 and id(member) not in self._groups:
                yield member


@dataclass(frozen=True, slots=True)
class Classifier:
    """Judges exceptions, by rules of your own first and then by the built-in tables."""

    rules: tuple[Rule, ...] = ()
    clock: Clock = SYSTEM

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))

    def classify(self, exc: BaseException) -> Failure:
        """Judge an exception; never raises, never reads the message into its answer."""
        try:
            return self._judge(exc, _Examined())
        except BaseException as raised:  # noqa: BLE001 - what it is made of is the user's
            why = f"looking at it raised {type(raised).__name__}"
            return Failure(Kind.UNKNOWN, None, why, "undecided")

    def _judge(self, exc: BaseException, looked: _Examined) -> Failure:
        weak: RuleVerdict | None = None
        chain = looked.new(links(exc))
        for position, link in enumerate(chain):
            if isinstance(link.exc, BaseExceptionGroup):
                failure = self._judge_group(link.exc, looked)
                if failure is not None and (failure.kind in RETRYABLE or not link.implied):
                    return failure
                continue
            verdict = self._read(link)
            if verdict is None:
                continue
            if verdict.weak:
                # The outermost general class stands, if nothing certain follows; but a client
                # that could not read an answer is no bug of whoever wrapped its error.
                if not link.implied and (weak is None or verdict.rule.startswith("frame:")):
                    weak = verdict
                continue
            return self._complete(verdict, chain[position:])
        if weak is not None:
            return self._complete(weak, chain[:1])
        why = f"{short_name(exc)} is not in any table"
        return Failure(Kind.UNKNOWN, None, why, "undecided")

    def _judge_group(
        self, group: BaseExceptionGroup[BaseException], looked: _Examined
    ) -> Failure | None:
        if not looked.enters(group):
            return None
        found = members_of(group)
        members = [m for m in found if not issubclass(type(m), asyncio.CancelledError)]
        # A task group cancels the others when one fails: that is not what went wrong.
        judged = [self._judge(member, looked) for member in looked.may(members or found)]
        if not judged:
            return None
        if not ALTERNATIVES.isdisjoint(class_names(group)):
            return _best_of(judged)
        worst = min(judged, key=lambda failure: SEVERITY.index(failure.kind))
        if worst.kind not in RETRYABLE:
            return worst
        waits = [f.retry_after for f in judged if f.retry_after is not None]
        return replace(worst, retry_after=max(waits, default=None))

    def _read(self, link: CauseLink) -> RuleVerdict | None:
        exc = link.exc
        if isinstance(exc, _STOPS) and not link.outermost:
            # asyncio.timeout raises TimeoutError from CancelledError: the first says what it is.
            return None
        mark = _read_mark(exc)
        if mark is not None:
            return mark
        for rule in self.rules:
            if rule.fits(exc):
                return RuleVerdict(
                    rule.kind, f"rule:{rule}", f"{short_name(exc)} fits your rule {rule}"
                )
        for read in _readers_of(class_names(exc), bare=is_bare(exc)):
            verdict = read(exc)
            if verdict is not None:
                return verdict
        verdict = read_standard(exc)
        if verdict is not None and link.implied and verdict.kind not in RETRYABLE:
            # `except FileNotFoundError: download()` says nothing about how the download failed.
            return None
        return verdict or read_answer(exc) or read_bug(exc)

    def _complete(self, verdict: RuleVerdict, chain: list[CauseLink]) -> Failure:
        verdict = _overruled(verdict, chain)
        retry_after = None
        if verdict.kind in RETRYABLE:
            retry_after = self._wait_of(verdict.kind, [link.exc for link in chain])
        if verdict.kind is Kind.RATE_LIMITED and not retry_after and _is_table(verdict):
            behind = (link.exc for link in chain if not link.implied)
            daily = next(filter(None, map(read_daily, behind)), None)
            if daily is not None:
                verdict, retry_after = daily, None
        return Failure(verdict.kind, retry_after, verdict.why, verdict.rule)

    def _wait_of(self, kind: Kind, chain: list[BaseException]) -> float | None:
        told = [retry_after_of(exc, self.clock) for exc in chain]
        if not any(told) and kind is Kind.RATE_LIMITED:
            told += [limit_reset_of(exc, self.clock) for exc in chain]
        if all(wait is None for wait in told):
            told = [rule.retry_after for exc in chain for rule in self.rules if rule.fits(exc)]
        # A wait of 0 beside one that is longer says nothing.
        return next(filter(None, told), next((wait for wait in told if wait is not None), None))


@lru_cache(maxsize=1024)
def _readers_of(
    names: tuple[str, ...], *, bare: bool
) -> tuple[Callable[[BaseException], RuleVerdict | None], ...]:
    """Return what reads errors of these classes."""
    return tuple(
        read
        for read, classes in _READERS
        if (not bare if classes is _ANY else not classes.isdisjoint(names))
    )


def _overruled(verdict: RuleVerdict, chain: list[CauseLink]) -> RuleVerdict:
    """Let what stands behind a wrapper correct it, where the wrapper cannot know better."""
    if not _is_table(verdict):
        return verdict
    behind = [link.exc for link in chain if not link.implied]
    if verdict.kind is Kind.RATE_LIMITED:
        # It may be money, not time, that is missing; or no time is enough.
        told = (read(exc) for exc in behind for read in (read_code, read_hopeless))
        return next((v for v in told if v is not None and v.kind is Kind.PERMANENT), verdict)
    if verdict.kind is Kind.TRANSIENT:
        # A connection that a proxy refused is not one that broke.
        proxied = (x.exc for x in chain if not http.PROXIED.isdisjoint(class_names(x.exc)))
        said = map(http.read_proxy, proxied)
        refused = next((v for v in said if v is not None and v.kind is not Kind.TRANSIENT), None)
        if refused is not None:
            return refused
    if verdict.rule in _TLS_WRAPPERS:
        behind = [link.exc for link in chain]
    elif verdict.kind is not Kind.TRANSIENT:
        return verdict
    # To one HTTP client a refused certificate is one more failed connection; to another a
    # connection that broke is one more failure of TLS. What TLS itself said is neither.
    of_tls = (exc for exc in behind if _TLS in class_names(exc))
    return next(filter(None, map(read_standard, of_tls)), verdict)


def _is_table(verdict: RuleVerdict) -> bool:
    """Say whether a built-in table spoke, not the error itself or a rule of the user's."""
    return not verdict.rule.startswith(("mark:", "rule:"))


def _best_of(alternatives: list[Failure]) -> Failure:
    """Return the alternative that can best be retried, after the shortest wait of any."""
    best = max(alternatives, key=lambda failure: SEVERITY.index(failure.kind))
    if best.kind not in RETRYABLE:
        return best
    waits = [failure.retry_after or 0.0 for failure in alternatives if failure.kind in RETRYABLE]
    return replace(best, retry_after=min(waits) or None)


def _read_mark(exc: BaseException) -> RuleVerdict | None:
    told = look_str(exc, "__redrive_kind__")
    if told is None or told not in Kind.__members__.values():
        return None
    kind = Kind(told)
    return RuleVerdict(
        kind, "mark:__redrive_kind__", f"{short_name(exc)} declares itself {kind.value}"
    )


def _reason_of(exc: BaseException, looked: _Examined) -> Reason | None:
    for link in looked.new(links(exc)):
        if link.implied:
            return None
        told = look(link.exc, "__redrive_reason__")
        if isinstance(told, str) and told in Reason.__members__.values():
            return Reason(told)
        members = members_of(link.exc)
        if members and looked.enters(link.exc):
            told_by = (_reason_of(member, looked) for member in looked.may(members))
            reason = next(filter(None, told_by), None)
            if reason is not None:
                return reason
    return None
