"""All rules by which errors are judged, for people; and docs/classification.md made of them.

`python -m redrive.classification_reference` writes the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from confluent_kafka import KafkaError

from redrive.retry.classifier import SEVERITY
from redrive.retry.tables import table_lines
from redrive.retry_settings import RetrySettings

__all__ = ["RuleLine", "classification_reference", "rules_of"]

OWN_RULES = "Rules of your own"

_HEAD = """\
# How failures are classified

<!-- Made by `python -m redrive.classification_reference`; do not edit. -->

Every failure gets a [kind](reason-codes.md#kinds), and the kind decides whether it is retried.
This page explains how, and lists all built-in rules. The command line classifies a single error:

```sh
redrive classify httpx:ConnectError
redrive classify httpx:HTTPStatusError --status 429 --retry-after 20s --workflow report-agent
redrive classify --list 429
```

The log has the name of the rule that decided (`status:429`) as `rule`, with a sentence that says
why.

## The order

These are checked in this order, and the first that matches decides:

1. the error's own declaration: an attribute `__redrive_kind__`, as in `redrive.TransientError` and
   `redrive.PermanentError`;
2. [rules of your own](#rules-of-your-own), from the first to the last;
3. codes: of Kafka, SQL, SQLite, Google, gRPC, AWS, of the Model Context Protocol, of providers of
   models; the header `x-should-retry`; what a proxy answered;
4. a validation error in the code of a client: a model wrote the text;
5. classes of known libraries, the most derived class first;
6. the HTTP status;
7. attributes `is_retryable` and `retriable`;
8. classes of Python's standard library, then errno;
9. the code in an answer over which [a client failed](#errors-told-in-an-answer);
10. Python's general classes, `ValueError` and the like.

[Providers and clients](providers.md) lists the same by library, with the tests that show it.

An error that nothing matches is `unknown`, and gets one retry.

## Causes

If an error was raised from another, the chain is followed from the outside to the root, and the
first **certain** classification decides. The general classes are not certain: a `ValueError` raised
from a `httpx.ConnectError` is as transient as its cause. Neither is an error that was only being
handled at the time (raised without `from`), unless it can be retried.

Three causes override a table, but not the error's own declaration or a rule of yours:
a rate limit is `permanent` when [no wait lifts it](#rate-limits), and so is a failed connection
when a certificate was refused, or when a proxy answered 407 or 403.

## Whose fault it is

A general class (`ValueError`, `TypeError`, `KeyError`, ...) is a bug of the node, and `permanent`,
unless the innermost frame of its traceback lies in the code of a client: then it is an answer that
the client could not read, and `unknown`, or what the code in its text says. In the same way, text
of a model is distinguished from input: a `ValidationError` in the node's own code is `permanent`;
one in the code of a client, a parser or a tool is `unknown`, and gets one retry. Frames of the
standard library and of pydantic are skipped: they work for their caller.

## Groups

In an exception group, the member that is least worth a retry decides, in this order:
SEVERITY.
The delay is the longest Retry-After of its members. Members that were only cancelled with the
others do not count. The members of pydantic-ai's `FallbackExceptionGroup` are alternatives: the
one that can best be retried decides, after the shortest wait of any.

## Retry-After

How long to wait at least is read from an attribute `retry_after` in seconds, from the headers
`retry-after-ms` and `retry-after` (the longer holds), gRPC's pushback, and Google's `RetryInfo`,
as JSON or in the details of a gRPC error; else a rule of yours may say.

Where a rate limit has none of these, or 0, these are asked in order: the reset of a limit of which
nothing remains (`x-ratelimit-reset-requests: 6m0s`, `anthropic-ratelimit-tokens-reset`,
`RateLimit-Reset` and the like: seconds, a duration or a moment); the wait that its message names
("try again in 1m30s"); the longest reset of any limit.

## Rate limits

These are `permanent`, in words, since the same request never passes: a request that is larger than
its limit, a quota of 0, Google's quotas of a day, and any quota of a day, a week or a month of
which nobody says when it is lifted.

## Rules of your own

They are part of the settings, and come before all built-in rules:

```toml
[retry]
max_retries = 5
backoff = "fibonacci"
total_limit = "15m"

[retry.kinds]
unknown = 0

[[retry.rules]]
name = "stock is being counted"
kind = "transient"
error = "shop.stock.StockError"
message = "count(ed|ing)"
retry_after = "2m"

[[retry.rules]]
kind = "permanent"
error = "httpx.HTTPStatusError"
status = 503

[graphs.report-agent]
target = "reports:graph"

[graphs.report-agent.retry]
max_retries = 1
```

All conditions of a rule must match. `error` names a class, or a base of it, by the first part of
its module and its own name (`httpx.HTTPStatusError`), or in full (`shop.stock.StockError`).
Every key is in [settings.md](settings.md#retryrules); `[graphs.ID.retry]` changes the retries
of one graph. In code, the same is a `Rule`:

```python run
from redrive.retry import Classifier, Kind, Rule

rule = Rule(Kind.TRANSIENT, error=KeyError, message="not there yet", retry_after=5)
failure = Classifier(rules=(rule,)).classify(KeyError("not there yet"))

assert failure.kind is Kind.TRANSIENT
assert failure.retry_after == 5
```

An error class of your own needs no rule: give it `__redrive_kind__ = "transient"`.
"""

_INTROS = {
    "HTTP": (
        "The clients httpx, httpx2, httpcore, requests, urllib3 and aiohttp; and the status "
        "that any error carries, in `status_code`, `status`, `code` or its `response`. `5xx` "
        "stands for those that are not named. `proxy:` is what a proxy answered to CONNECT."
    ),
    "Language models and graphs": (
        "openai, anthropic, groq and other SDKs of their make, google-genai, ollama, "
        "langchain-core, langgraph and pydantic. "
        "Most of their errors carry an HTTP status, which decides where nothing here does. "
        "With `x-should-retry: true` a rate limit or a timeout stays one."
    ),
    "Agents and tools": (
        "The JSON-RPC codes of the Model Context Protocol; pydantic-ai, LangChain's agents and "
        "parsers. What a model wrote and does not fit is `unknown`: it may write better, once."
    ),
    "Errors told in an answer": (
        "Codes in an answer with the status 200 or in a stream, read from an error that a client "
        "raised over it; and the clients (`frame:`), of which `langchain_...` stands for every "
        "package of that name. A number is an HTTP status."
    ),
    "Databases": (
        "psycopg, asyncpg, sqlite3, SQLAlchemy and redis. A whole SQLSTATE comes before its "
        "class, `08xxx`."
    ),
    "Remote services": (
        "gRPC, also in google-api-core; AWS (botocore, boto3); google-auth with OAuth's codes, and "
        "the reasons of Google's HTTP APIs. `grpc:pushback` is a server's own word: do not retry."
    ),
    "Kafka": (
        "The protocol's error codes, of confluent-kafka and aiokafka; those below zero are "
        "librdkafka's own. `kafka:fatal` is an error that ends its client, "
        "`kafka:tls_alert` a TLS alert of a broker that refuses this client's certificate."
    ),
    "Python and the operating system": (
        "An `OSError` is judged by its class, then by its errno; without one it is unknown."
    ),
    "Python's general classes": (
        "Signs of a bug, or of data that do not fit. What stands behind such an error decides "
        "before them."
    ),
}


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule: `what` is its name in the log, `meaning` says more where there is more."""

    family: str
    what: str
    kind: str
    meaning: str = ""


def rules_of(retry: RetrySettings) -> list[RuleLine]:
    """Return the user's rules, then every line of the built-in tables."""
    own = [settings.rule() for settings in retry.rules]
    return [
        *(
            RuleLine(OWN_RULES, f"rule:{rule}", rule.kind.value, str(replace(rule, name="")))
            for rule in own
        ),
        *(
            RuleLine(line.family, line.what, line.kind.value, _meaning(line.what))
            for line in table_lines()
        ),
    ]


def _meaning(what: str) -> str:
    form, _, name = what.partition(":")
    is_code = form == "kafka" and name.lstrip("-").isdigit()
    return KafkaError(int(name)).name() if is_code else ""


def classification_reference() -> str:
    """Return the page docs/classification.md, made from the tables."""
    severity = ", ".join(f"`{kind.value}`" for kind in SEVERITY)
    parts = [_HEAD.replace("SEVERITY", severity)]
    for family, lines in groupby(rules_of(RetrySettings()), key=lambda line: line.family):
        parts += _section(family, list(lines))
    return "".join(parts)


def _section(family: str, lines: list[RuleLine]) -> Iterator[str]:
    yield f"\n## {family}\n\n{_INTROS[family]}\n\n"
    explained = any(line.meaning for line in lines)
    yield "| rule | kind | name |\n|---|---|---|\n" if explained else "| rule | kind |\n|---|---|\n"
    for line in lines:
        name = f" {line.meaning} |" if explained else ""
        yield f"| `{line.what}` | {line.kind} |{name}\n"


if __name__ == "__main__":
    sys.stdout.write(classification_reference())
