"""What a name says of its value: `db_password`, `X-Api-Key`, `clientSecret`, `max_tokens`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

__all__ = ["NAMES_OF_NAMES", "NAMES_OF_VALUES", "NamedValue", "Says", "is_secret_name", "said_by"]


class Says(Enum):
    """How sure a name is of its value."""

    SURE = "it is a secret, whatever it looks like"
    LIKELY = "it is a secret if it is no word"
    TOKEN = "it is a secret, or something that a program counts, or a word of its language"  # noqa: S105
    MAYBE = "it is a secret if it looks like one"


@dataclass(frozen=True, slots=True)
class NamedValue:
    """What a name says of its value, and what that is called."""

    says: Says
    what: str


_MOST_CHARS = 200
_KNOWN = 4_096

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", re.ASCII)
# Words that end so are secrets also where they are written as one: `dbpassword`, `PGPASSWORD`.
_SECRET = re.compile(
    r"(?:(?P<password>password|passwd|passwort|passphrase|passcode|pwd|kennwort|contrasena"
    r"|(?:store|key|trust|require)pass|masterauth)"
    r"|(?P<secret>secret|connectionstring|jaas)"
    r"|(?P<credentials>credentials?|creds)"
    r"|(?P<api>apikeys?)"
    r"|(?P<key>(?:access|private|account|signing|encryption|secret|master)key)"
    r"|(?P<cookie>phpsessid|jsessionid|aspsessionid|sessionid|csrftoken|xsrftoken|set-?cookie)"
    r"|(?P<token>(?:access|auth|refresh|session|security|bot|client|csrf|xsrf|api|id)tokens?))s?\Z"
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# `api_key`, `signing_key`; a lone key is one of a table, or of a record.
_OF_A_KEY = _words(
    "api access private account signing encryption encrypt decrypt decryption master "
    "subscription secret shared service auth authentication storage app application consumer "
    "hmac ssh fernet deploy license licence admin write ingest integration webhook client user "
    "tls ssl session jwt publishable restricted live functions function host rest"
)
_OF_MANY_KEYS = _words("session host user function")
# What a program counts, or parses; and what only points at a place.
_NO_TOKEN = _words(
    "next page paging pagination continuation cursor max min num total count prompt completion "
    "input output reasoning cached stop start end pad eos bos unk mask cancellation cancel "
    "unexpected invalid per first last special sync resume expected missing syntax of the a an "
    "this that each every any one parse parser new current illegal bad"
)
_NO_PASS = _words("first second third last test tests all did this by two one each low")
# Behind a name of a secret these speak about it: `token_url`, `password_min_length`.
_ABOUT = _words(
    "url uri urls endpoint endpoints name names file files path paths dir folder type types "
    "count counts length len limit limits size ttl expiry expires expired expiration age days "
    "enabled disabled required policy policies version versions arn field fields header headers "
    "env usage used min max budget total budgets manager store mode status state format prefix "
    "provider class method rotation location ref refs at by in label labels callback factory "
    "less reset hint strength changed updated created error errors exception invalid missing "
    "handler func fn getter helper index authentication"
)
_ALSO_IDS = _words("id ids identifier uuid")
# Services whose keys have no form of their own: hexadecimal, mostly.
_SERVICES = _words(
    "adafruit adobe airtable algolia alibaba asana atlassian confluence jira beamer bitbucket "
    "bittrex meraki cloudflare codecov cohere coinbase confluent contentful datadog discord "
    "droneci drone dropbox etsy facebook fastly finicity finnhub flickr freshbooks freshdesk "
    "gitter gocardless heroku hubspot intercom jfrog artifactory bintray xray kraken kucoin "
    "launchdarkly linear linkedin lob looker mailchimp mailgun mapbox mattermost messagebird "
    "netlify newrelic nytimes newyorktimes okta pagerduty plaid privateai rapidapi sendbird "
    "sentry snyk sourcegraph square squarespace sumo sumologic travis trello twilio twitch "
    "twitter yandex zendesk opsgenie deepgram mistral together wandb pinecone weaviate "
    "elevenlabs assemblyai honeycomb rollbar bugsnag segment mixpanel amplitude sonar postmark "
    "kraken openweathermap newsapi"
)
_KEYS_ARE_UUIDS = _words("heroku hubspot snyk squarespace kucoin postmark")
_MAYBE = _words("key keys pat auth authorization authentication code signature sig jwt bearer sas")
_NO_CODE = _words("error status exit return reason country")
_PAIRS = {
    ("connection", "string"): "connection-string",
    ("snmp", "community"): "community",
    # What bundler takes for a host: BUNDLE_ENTERPRISE__CONTRIBSYS__COM.
    ("contribsys", "com"): "password",
    # A user and its password: `basic.auth.user.info` of a schema registry.
    ("user", "info"): "credentials",
}
_MAYBE_WHAT = {"authorization": "auth", "authentication": "auth", "keys": "key", "pat": "token"}


NAMES_OF_NAMES = (
    *("name", "key", "k", "field", "param", "parameter", "property", "prop", "variable", "var"),
    *("header", "label", "option", "setting", "attribute", "attr", "id", "title"),
)
"""What a record calls the member that holds a name: `{"name": "password", "value": "…"}`."""
NAMES_OF_VALUES = (
    *("value", "val", "v", "content", "contents", "text", "data", "arg", "argument", "setting"),
    *("default", "current", "string", "body"),
)
"""What it calls the one that holds its value."""


def is_secret_name(name: str) -> bool:
    """Say whether a setting or an option that is called so holds a secret, whatever its value."""
    said = said_by(name)
    return said is not None and said.says in {Says.SURE, Says.TOKEN}


def said_by(name: str) -> NamedValue | None:
    """Return what a name says of its value, or None if that may be anything."""
    return _said_by(name[-_MOST_CHARS:])


@lru_cache(maxsize=_KNOWN)
def _said_by(name: str) -> NamedValue | None:
    words = [word.lower() for word in _WORDS.findall(name)]
    for number in range(len(words) - 1, -1, -1):
        found = (
            _in_one_word(words[number])
            or _behind(words[number - 1] if number else "", words, number)
            or _if_it_looks_like_one(words, number)
        )
        if found is not None:
            behind = words[number + 1 :]
            # A `secret_id` is a secret, a `private_key_id` none.
            is_id = found.what != "secret" and not _ALSO_IDS.isdisjoint(behind)
            return None if is_id or not _ABOUT.isdisjoint(behind) else found
    return None


def _in_one_word(word: str) -> NamedValue | None:
    found = _SECRET.search(word)
    if found is None:
        return None
    group = found.lastgroup or ""
    what = {"api": "api-key", "key": found[0].replace("key", "-key")}.get(group, group)
    return NamedValue(Says.SURE, what)


def _behind(before: str, words: list[str], number: int) -> NamedValue | None:
    """Return what a word says together with the one before it."""
    pair = _PAIRS.get((before, words[number]))
    if pair is not None and (pair != "credentials" or "auth" in words):
        return NamedValue(Says.SURE, pair)
    match words[number]:
        case "key" | "keys" if before in _OF_A_KEY:
            sure = Says.MAYBE if before in _OF_MANY_KEYS else Says.SURE
            return NamedValue(sure, f"{before}-key")
        case "token" | "tokens" as word if before not in _NO_TOKEN:
            # Many of them are counted.
            alone = not before or word == "tokens"
            return NamedValue(Says.TOKEN if alone else Says.SURE, "token")
        case "pass" | "pw" if before not in _NO_PASS:
            last = number == len(words) - 1
            return NamedValue(Says.SURE if before and last else Says.TOKEN, "password")
        case "signature" if "amz" in words or "goog" in words:
            return NamedValue(Says.SURE, "signature")
    return None


def _if_it_looks_like_one(words: list[str], number: int) -> NamedValue | None:
    word, before = words[number], words[number - 1] if number else ""
    if word in _SERVICES:
        says = Says.LIKELY if word in _KEYS_ARE_UUIDS and number == len(words) - 1 else Says.MAYBE
        return NamedValue(says, f"{word}-key")
    if word not in _MAYBE or (word == "code" and before in _NO_CODE):
        return None
    if before in _SERVICES:
        return NamedValue(Says.LIKELY, f"{before}-key")
    is_last = number == len(words) - 1
    return NamedValue(Says.MAYBE, _MAYBE_WHAT.get(word, word)) if is_last else None
