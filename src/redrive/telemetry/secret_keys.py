"""Keys and tokens that show by their form whose they are: one row of a table for each form.

Found in time that grows with the text alone: a row is looked up by the two characters with which
it begins, and nothing in a pattern may fail once an unbounded repetition has begun.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from string import ascii_letters, digits

__all__ = ["KEY_PATTERNS", "Span", "end_of_word", "found_in", "keys_in"]

Span = tuple[int, int, str]
"""Where a secret begins and ends in a text, and what it is."""

# No key is shorter, but most words of a text are.
_SHORTEST_CHARS = 12


@dataclass(frozen=True, slots=True)
class _Key:
    what: str
    begins: tuple[str, ...]
    pattern: re.Pattern[str]


def _key(what: str, begins: str, rest: str) -> _Key:
    """Return a row: what it is, the texts with which it begins, and the pattern of what follows."""
    prefixes = tuple(begins.split())
    either = "|".join(re.escape(prefix) for prefix in prefixes)
    return _Key(what, prefixes, re.compile(f"(?:{either})(?:{rest})", re.ASCII))


# Random, and no word of a language or name in a program: with a digit, or in both cases too.
_DIGIT = r"(?=[A-Za-z_.=*+/-]{0,64}[\d*])"
# So much of it without a sign is no part of a name: `sk-ecdsa-sha2-nistp256`, `pplx-embed-v1-0.6b`.
_RUN = r"(?=[\w*-]{0,64}?(?=[A-Za-z*]{0,32}[\d*])[A-Za-z0-9*]{10})"
_CASES = r"(?=[a-z0-9]{0,64}[A-Z])(?=[A-Z0-9]{0,64}[a-z])"
_MIXED = _DIGIT + _CASES
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_END = r"(?![A-Za-z0-9_-])"

_KEYS = (
    # Models and what is around them. `*`: the message of a refused key shows a part of it.
    _key("anthropic-key", "sk-ant-", r"[\w*-]{8,}"),
    _key("openrouter-key", "sk-or-", r"[\w*-]{8,}"),
    _key("langfuse-key", "sk-lf- pk-lf-", r"[\w*-]{16,}"),
    _key("openai-key", "sk- sess-", _RUN + r"[\w*-]{16,}"),
    _key("elevenlabs-key", "sk_", _DIGIT + r"[0-9a-f]{40,}"),
    _key("google-key", "AIza", r"[\w-]{30,}"),
    _key("google-token", "ya29. 1//0", r"[\w.-]{10,}"),
    _key("google-token", "GOCSPX-", r"[\w-]{16,}"),
    _key("huggingface-token", "hf_ api_org_", r"[A-Za-z0-9]{16,}"),
    _key("model-provider-key", "gsk_ r8_ xai- pplx- tvly- nvapi- fw_ csk- lsv2_pt_ lsv2_sk_ lsv2_ "
         "jina_ e2b_ pcsk_ fc- tgp_v1_ m0-", _RUN + r"[\w-]{16,}"),
    _key("bedrock-key", "ABSK", r"[A-Za-z0-9+/]{40,}={0,2}"),
    _key("bedrock-key", "bedrock-api-key-", r"[\w+/=-]{16,}"),
    # Clouds.
    _key("aws-key-id", "AKIA ASIA ABIA ACCA", r"[A-Z0-9]{12,}"),
    _key("aws-key-id", "A3T", r"[A-Z0-9]{17}" + _END),
    _key("aws-appsync-key", "da2-", _DIGIT + r"[a-z0-9]{26}"),
    _key("alibaba-key", "LTAI", r"[A-Za-z0-9]{12,}"),
    _key("tencent-key", "AKID", r"[A-Za-z0-9]{28,}"),
    _key("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", r"[\w-]{16,}"),
    _key("databricks-token", "dapi", _DIGIT + r"[a-h0-9]{28,}(?:-\d)?"),
    _key("doppler-token", "dp.pt. dp.ct. dp.st. dp.sa. dp.scim. dp.audit.", r"[\w.-]{16,}"),
    _key("dynatrace-token", "dt0c01. dt0s01. dt0s02. dt0s16.", r"[A-Za-z0-9]{16,}(?:\.\w+)?"),
    _key("pulumi-token", "pul-", _DIGIT + r"[a-z0-9]{32,}"),
    _key("openshift-token", "sha256~", r"[\w-]{32,}"),
    _key("cloudflare-key", "v1.0-", _DIGIT + r"[A-Za-z0-9-]{64,}"),
    _key("flyio-token", "fo1_ fm1a_ fm1r_ fm2_", r"[\w+/=,-]{16,}"),
    _key("flyio-token", "FlyV1", r" ?[\w+/=,-]{16,}"),
    _key("heroku-key", "HRKU-", r"[\w-]{16,}"),
    _key("planetscale-token", "pscale_oauth_ pscale_pw_ pscale_tkn_", r"[\w.=-]{16,}"),
    _key("clickhouse-key", "4b1d", r"(?=[0-9a-f]{0,38}[A-Zg-z])[A-Za-z0-9]{38}" + _END),
    _key("scalingo-token", "tk-us-", r"[\w-]{32,}"),
    _key("supabase-key", "sbp_ sb_secret_", r"[\w-]{16,}"),
    _key("tailscale-key", "tskey-", r"[\w-]{16,}"),
    _key("netlify-token", "nfp_ nfc_", r"[\w-]{16,}"),
    _key("render-key", "rnd_", r"[A-Za-z0-9]{24,}"),
    _key("yandex-key", "AQVN", r"[\w-]{30,}"),
    _key("yandex-token", "t1.", r"[\w-]{8,512}={0,2}\.[\w-]{40,}={0,2}"),
    _key("yandex-key", "YC", _DIGIT + r"[\w-]{38}" + _END),
    _key("azure-refresh-token", "0.A 1.A", r"[\w-]{50,}"),
    _key("okd-token", "hcp.", r"[\w.-]{32,}"),
    # Vaults, and what hands out keys.
    _key("vault-token", "hvs. hvb. hvr.", r"[\w.-]{16,}"),
    _key("vault-token", "s.",
         r"(?=[A-Za-z]{0,22}\d{1,9}[a-zA-Z]{1,22}\d)[A-Za-z0-9]{24,64}(?![\w-]|\.\w)"),
    _key("1password-token", "ops_eyJ", r"[\w+/=-]{16,}"),
    _key("1password-key", "A3-", r"[A-Z0-9]{6}(?:-[A-Z0-9]{5,11}){3,5}"),
    _key("age-key", "AGE-SECRET-KEY- AGE-PLUGIN-", r"[A-Z0-9-]{16,}"),
    _key("infracost-key", "ico-", r"[A-Za-z0-9]{24,}"),
    _key("prefect-key", "pnu_ pnb_", r"[A-Za-z0-9]{24,}"),
    _key("harness-key", "pat. sat.", r"[\w-]{16,64}\.[A-Za-z0-9]{16,64}\.[A-Za-z0-9]{12,}"),
    _key("authress-key", "sc_ ext_ scauth_ authress_",
         r"[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.acc[_-][a-z0-9-]{10,32}\.[\w+/=-]{24,}"),
    _key("octopus-key", "API-", _DIGIT + r"[A-Z0-9]{24,}"),
    _key("defined-key", "dnkey-", r"[\w=-]{32,}"),
    _key("zuplo-key", "zpka_", r"\w{16,}"),
    _key("scalr-token", "scalr_", r"[\w-]{24,}"),
    # Code and packages.
    _key("github-token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"\w{16,}"),
    _key("gitlab-token", "glpat- gldt- glrt- glrtr- glcbt- glptt- glsoat- glffct- glft- glimt- "
         "glagent- gloas- glwt- GR1348941", r"[\w.=-]{16,}"),
    _key("gitlab-session", "_gitlab_session=", r"\w{16,}"),
    _key("atlassian-token", "ATATT ATCTT ATBB BBDC-", r"[\w+/@=-]{10,}"),
    _key("npm-token", "npm_", r"[A-Za-z0-9]{30,}"),
    _key("pypi-token", "pypi-", _DIGIT + r"[\w-]{30,}"),
    _key("rubygems-key", "rubygems_", _DIGIT + r"[A-Za-z0-9]{32,}"),
    _key("clojars-token", "CLOJARS_", r"[A-Za-z0-9]{32,}"),
    _key("crates-token", "cio", _MIXED + r"[A-Za-z0-9]{32}" + _END),
    _key("nuget-key", "oy2", _DIGIT + r"[a-z0-9]{43}" + _END),
    _key("docker-token", "dckr_pat_ dckr_oat_", r"[\w-]{16,}"),
    _key("artifactory-key", "AKCp", r"[A-Za-z0-9]{40,}"),
    _key("artifactory-token", "cmVmd", r"[A-Za-z0-9=]{40,}"),
    _key("sonar-token", "squ_ sqp_ sqa_ sqco_", r"[\w=-]{32,}"),
    _key("sourcegraph-token", "sgp_ slk_", r"\w{32,}"),
    _key("codeclimate-token", "cc_", r"[0-9a-f]{40,}"),
    _key("circleci-token", "CCIPAT_ CCIPRJ_", r"\w{16,}"),
    _key("buildkite-token", "bkua_ bkaj_", _DIGIT + r"[a-z0-9]{24,}"),
    # Watching.
    _key("grafana-token", "glc_", r"[A-Za-z0-9+/=]{24,}"),
    _key("grafana-token", "glsa_", r"\w{24,}"),
    _key("grafana-key", "eyJrIjoi", r"[A-Za-z0-9+/]{32,}={0,3}"),
    _key("sentry-token", "sntrys_ sntryu_ sntrya_ sntryi_", r"[\w+/=-]{16,}"),
    _key("newrelic-key", "NRAK- NRJS- NRII- NRIQ- NRRA- NRSP- NRBR-", r"[\w-]{16,}"),
    _key("rootly-key", "rootly_", r"[0-9a-f]{32,}"),
    _key("posthog-key", "phx_ phc_ phs_", r"\w{24,}"),
    _key("honeycomb-key", "hcaik_ hcbik_ hcxik_ hcalk_ hcxlk_", r"\w{24,}"),
    # Messages and mail.
    _key("slack-token", "xoxa xoxb xoxc xoxd xoxe xoxo xoxp xoxr xoxs",
         r"(?:\.xox[a-z])?-[\w%+/=-]{8,}"),
    _key("slack-token", "xapp- xwfp-", r"[\w-]{8,}"),
    _key("sendgrid-key", "SG.", r"(?=[\w=-]{0,80}\.|[\w=.-]{60})[\w=.-]{32,}"),
    _key("sendinblue-key", "xkeysib- xsmtpsib-", r"[\w-]{24,}"),
    _key("mailgun-key", "key- pubkey-", _DIGIT + r"[a-z0-9]{32}" + _END),
    _key("twilio-key", "SK AC", _DIGIT + r"[0-9a-fA-F]{32}" + _END),
    _key("resend-key", "re_", _MIXED + r"\w{24,}"),
    _key("discord-token", " ".join(a + b for a in "MNO" for b in ascii_letters + digits),
         r"[\w-]{20,28}\.[\w-]{6}\.[\w-]{27,}"),
    _key("typeform-token", "tfp_", r"[\w.=-]{24,}"),
    # Money and shops.
    _key("stripe-key", "sk_live_ sk_test_ sk_org_ sk_prod_ rk_live_ rk_test_ rk_org_ rk_prod_ "
         "pk_live_ pk_test_ pk_org_ whsec_", r"\w{8,}"),
    _key("square-token", "EAA", r"[A-Za-z][\w-]{22,}"),
    _key("square-token", "sq0", r"[a-z]{3}-[\w-]{16,}"),
    _key("square-token", "sandbox-sq0", r"[a-z]{3}-[\w-]{16,}"),
    _key("klaviyo-key", "pk_", r"(?:[A-Za-z0-9]{6}_)?[0-9a-f]{34}"),
    _key("shopify-token", "shpat_ shpca_ shppa_ shpss_ shptka_ shpua_", r"\w{16,}"),
    _key("easypost-key", "EZAK EZTK", r"[A-Za-z0-9]{40,}"),
    _key("flutterwave-key", "FLWPUBK_TEST- FLWSECK_TEST- FLWPUBK- FLWSECK-",
         r"[A-Za-z0-9]{12,}(?:-X)?"),
    _key("duffel-token", "duffel_test_ duffel_live_", r"[\w=-]{24,}"),
    _key("plaid-token", "access-sandbox- access-development- access-production-", _UUID),
    _key("shippo-token", "shippo_live_ shippo_test_", r"[0-9a-fA-F]{24,}"),
    _key("paypal-token", "access_token$production$ access_token$sandbox$", r"[\w$]{16,}"),
    _key("gocardless-token", "live_ sandbox_", _DIGIT + r"[\w=-]{40,}"),
    _key("lob-key", "live_pub_ test_pub_ live_ test_", _DIGIT + r"[0-9a-f]{31,35}" + _END),
    # Work.
    _key("adobe-secret", "p8e-", r"[A-Za-z0-9]{24,}"),
    _key("airtable-token", "pat", _DIGIT + r"[A-Za-z0-9]{14}\.[0-9a-f]{32,}"),
    _key("hubspot-token", "pat-na1- pat-na2- pat-eu1- pat-ap1-", r"[A-Za-z0-9-]{24,}"),
    _key("frameio-token", "fio-u-", r"[\w=-]{32,}"),
    _key("linear-key", "lin_api_ lin_oauth_", r"\w{16,}"),
    _key("notion-token", "ntn_", r"\w{24,}"),
    _key("notion-token", "secret_", _MIXED + r"[A-Za-z0-9]{32,}"),
    _key("figma-token", "figd_ figo_ figu_ figor_", r"[\w-]{16,}"),
    _key("postman-key", "PMAK- PMAT-", r"[\w-]{16,}"),
    _key("readme-key", "rdme_", r"\w{32,}"),
    _key("asana-token", "1/ 2/", r"\d{12,20}(?:/\d{12,20})?:[0-9a-f]{32}" + _END),
    _key("settlemint-token", "sm_aat_ sm_pat_ sm_sat_", r"[A-Za-z0-9]{12,}"),
    _key("intra42-secret", "s-s4t2ud- s-s4t2af- u-s4t2ud- u-s4t2af-", r"[0-9a-f]{32,}"),
    _key("mapbox-token", "pk. sk. tk.", r"(?:eyJ[\w-]{16,}|" + _DIGIT + r"[A-Za-z0-9-]{30,})"),
    _key("beamer-token", "b_", _DIGIT + r"[A-Za-z0-9_=-]{44}(?![\w=-])"),
    _key("gemini-key", "master- account-", _CASES + r"[A-Za-z0-9]{20}" + _END),
    _key("voiceflow-key", "VF.", r"[\w.]{32,}"),
    _key("pganalyze-key", "pgar_ pgap_", r"\w{20,}"),
    _key("ubidots-token", "BBFF- BBUS-", r"[A-Za-z0-9]{24,}"),
    _key("salesforce-token", "3MVG9 5AEP861", r"[\w.+/=]{64,}"),
    _key("zoho-token", "1000.", r"[0-9a-f]{32}\.[0-9a-f]{32}"),
    _key("fullstory-key", "na1. eu1.", _DIGIT + r"[A-Za-z0-9+/]{40,}"),
    _key("endor-key", "endr+", r"[A-Za-z0-9-]{16}"),
    _key("finage-key", "API_KEY", _DIGIT + r"[0-9A-Z]{32}"),
    _key("salad-key", "salad_cloud_", r"[A-Za-z0-9]{1,7}_[A-Za-z0-9]{7,}"),
    _key("bannerbear-key", "bb_ma_ bb_pr_", r"[0-9a-f]{24,}"),
    _key("dropbox-token", "sl.", _DIGIT + r"[\w.=-]{60,}"),
    _key("twitter-token", "AAAAAAAAAAAAAAAAAAAA", r"[A-Za-z0-9%]{40,}"),
    _key("jwt", "eyJ", r"(?:[\w-]{6,15}\.[\w-]{2,}|[\w-]{16,})(?:\.[\w-]*+){0,4}"),
    # Its JSON may begin with a line break, or be made in another way.
    _key("jwt", "ey ewo", r"[\w=-]{12,1024}\.e[yw][\w/=-]{12,}(?:\.[\w/=-]*+){0,3}"),
    _key("jwt", "ZXlK", r"[A-Za-z0-9+/_-]{24,}={0,2}"),
)  # fmt: skip


def _by_start(keys: Iterable[_Key]) -> dict[str, tuple[_Key, ...]]:
    table = defaultdict[str, list[_Key]](list)
    for key in keys:
        for start in dict.fromkeys(prefix[:2] for prefix in key.begins):
            table[start].append(key)
    return {start: tuple(found) for start, found in table.items()}


_TABLE = _by_start(_KEYS)

# A key stands alone: not inside a word, but right behind an escape (`\n`).
_BEHIND_ESCAPE = r"(?<=\\[nrt])"
_ALONE = rf"(?:(?<![A-Za-z0-9])|{_BEHIND_ESCAPE})"
_BASE64 = rf"(?:(?<![\w+/=-])|{_BEHIND_ESCAPE}|(?<=[?&;]\w=)|(?<=\w=))"


def _starts(table: Iterable[str]) -> str:
    """Return the pattern of how keys begin, which leaves out most words of a text."""
    seconds = defaultdict[str, str](str)
    for start in table:
        seconds[start[0]] += start[1]
    either = "|".join(f"{first}[{re.escape(chars)}]" for first, chars in seconds.items())
    return rf"(?=(?:{either})\S{{{_SHORTEST_CHARS - 2}}})"


_START = re.compile(r"(?<![A-Za-z0-9])" + _starts(_TABLE))
_START_BEHIND_ESCAPE = re.compile(_BEHIND_ESCAPE + _starts(_TABLE))


@dataclass(frozen=True, slots=True)
class _Inside:
    """A form that is known by something in its midst."""

    what: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]


def _inside(what: str, hints: str, pattern: str) -> _Inside:
    return _Inside(what, tuple(hints.split()), re.compile(pattern, re.ASCII))


_INSIDE = (
    # The bound on the left is what keeps these linear: they begin at most so far from the hint.
    _inside("telegram-token", ":A", _ALONE + r"(?:bot)?\d{5,16}:A[\w-]{34}(?![\w-])"),
    _inside("azure-secret", "Q~", r"(?:(?<![\w~.])|(?<=\\[nrt]))[\w~.]{3}\dQ~[\w~.-]{31,}"),
    _inside("azure-token", "AZDO", _ALONE + r"[A-Za-z0-9]{60,90}AZDO[A-Za-z0-9]{4}"),
    _inside("terraform-token", ".atlasv1.", _ALONE + r"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{40,}"),
    _inside("facebook-token", "| %", r"(?<!\d)\d{15,16}[|%][\w-]{27,}"),
    _inside("maxmind-key", "_mmk", _ALONE + r"[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk"),
    _inside("azure-registry-key", "+ACR", _BASE64 + r"[A-Za-z0-9+/]{42}\+ACR[A-Za-z0-9]{6}"),
    # 64 bytes without a name before them; a digest has one: `sha512-`.
    _inside("azure-key", "==", _BASE64 + r"[A-Za-z0-9+/]{86}==(?!=)"),
    _inside("newrelic-key", "FFFFNRAL NRMA",
            _ALONE + r"(?:eu01xx[0-9a-f]{26,36}|[0-9A-Fa-f]{32,42})(?:FFFFNRAL|-NRMA)"),
    _inside("tableau-token", "==:", _BASE64 + r"[A-Za-z0-9+/]{22}==:[A-Za-z0-9]{32}" + _END),
    _inside("airtable-token", ".v1.",
            _ALONE + r"[A-Za-z0-9]{6,64}\.v1\.[\w-]{4,128}\.[0-9a-f]{6,}"),
    _inside("mailchimp-key", "-us", _ALONE + r"[0-9a-f]{32}-us\d{1,2}" + _END),
    _inside("mailgun-key", "mailgun Mailgun MAILGUN",
            _ALONE + r"[0-9a-h]{32}-[0-9a-h]{8}-[0-9a-h]{8}" + _END),
)  # fmt: skip

KEY_PATTERNS = (*(key.pattern for key in _KEYS), *(form.pattern for form in _INSIDE))
"""The patterns of all forms, for the test that each takes linear time."""


def keys_in(text: str) -> Iterator[Span]:
    """Find keys that have a form of their own."""
    yield from _begun(text, _START)
    if "\\" in text:
        yield from _begun(text, _START_BEHIND_ESCAPE)
    for form in _INSIDE:
        if any(hint in text for hint in form.hints):
            yield from found_in(text, form.pattern, form.what)


def found_in(text: str, pattern: re.Pattern[str], what: str) -> Iterator[Span]:
    """Find each match of a pattern, whole."""
    for found in pattern.finditer(text):
        yield found.start(), found.end(), what


def _begun(text: str, starts: re.Pattern[str]) -> Iterator[Span]:
    done = 0
    for start in starts.finditer(text):
        at = start.start()
        for key in _TABLE[text[at : at + 2]] if at >= done else ():
            found = key.pattern.match(text, at)
            if found is not None:
                done = end_of_word(text, found.end())
                yield at, done, key.what
                break


_REST = re.compile(r"(?:[=.]{0,2}[\w+~-]++)*+={0,2}", re.ASCII)


def end_of_word(text: str, at: int) -> int:
    """Return where the word ends that goes on here: what a maker adds to a key is part of it."""
    rest = _REST.match(text, at)
    return at if rest is None else rest.end()
