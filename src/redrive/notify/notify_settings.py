"""The settings `notify.*`: which channels there are, and what each of them is told."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from redrive.notify.rules import NotifyRule, Routing
from redrive.secret_values import is_reference, revealed
from redrive.units import Duration, Listed

__all__ = ["NotifyRuleSettings", "NotifySettings"]


class NotifyRuleSettings(BaseModel):
    """Failures that match all patterns (with `*`, `?`, `[…]`) are sent to these channels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: tuple[str, ...] = Field(
        description="Names of channels. An empty list silences the failure: later rules are not "
        "tried."
    )
    workflow: str = Field("*", description="Condition: a pattern for the workflow's id.")
    kind: str = Field("*", description="Condition: a pattern for the kind, such as `timeout`.")
    reason: str = Field("*", description="Condition: a pattern for the reason, such as `result_*`.")
    fingerprint: str = Field("*", description="Condition: a pattern for the fingerprint.")
    count: int = Field(
        1, ge=1, description="Condition: at least this many equal failures within the window."
    )

    def rule(self) -> NotifyRule:
        """Return the rule as `redrive.notify` takes it."""
        return NotifyRule(
            self.to,
            workflow=self.workflow,
            kind=self.kind,
            reason=self.reason,
            fingerprint=self.fingerprint,
            count=self.count,
        )


class NotifySettings(BaseModel):
    """The rules, channels and limits of notifications."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: dict[str, SecretStr] = Field(
        default_factory=dict,
        description='Channels, as Apprise URLs: by name, as in `team = "slack://…"` in '
        "`[notify.urls]`, or as a list, named after the services. They are secrets: set them as "
        "`REDRIVE_NOTIFY__URLS__TEAM`.",
    )
    window: Duration = Field(
        timedelta(minutes=5),
        ge=timedelta(seconds=1),
        description="After the first of equal failures, further ones are reported together, once "
        "per window.",
    )
    many_letters: int = Field(
        100,
        ge=0,
        description="Notify when a worker writes this many letters within the window; 0: never.",
    )
    crashes: int = Field(
        3,
        ge=1,
        description="Notify when a worker dies this many times in a row; its parent "
        "sends the message.",
    )
    alarms: Listed[str] | None = Field(
        None,
        description="The channels for many letters, spooled letters and crashes. Default: all.",
    )
    timeout: Duration = Field(
        timedelta(seconds=10),
        gt=timedelta(0),
        description="How long it may take to send a message.",
    )
    hook: str | None = Field(
        None, description="A function of your own to call with each letter, as module:function."
    )
    rules: tuple[NotifyRuleSettings, ...] = Field(
        (),
        description="Which failures go to which channels; see below. A channel that no rule names "
        "gets everything.",
    )

    @field_validator("urls")
    @classmethod
    def _are_urls(cls, urls: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, url in urls.items():
            # Never the URL itself: it is a secret. [P15]
            given = url.get_secret_value()
            if "://" not in given and not is_reference(given):
                raise ValueError(f"{name} is not a URL: write it as service://…")
        return urls

    @model_validator(mode="after")
    def _names_exist(self) -> NotifySettings:
        named = [name for rule in self.rules for name in rule.to] + list(self.alarms or ())
        unknown = sorted(set(named) - self.urls.keys())
        if unknown:
            known = ", ".join(self.urls) or "none"
            raise ValueError(
                f"a rule or `alarms` names the channel {unknown[0]!r}, and notify.urls has no such "
                f"one; known: {known}"
            )
        return self

    def url(self, name: str) -> str:
        """Return a channel's URL, a secret, from where it lies.

        Raises:
            SettingsError: It lies in a file or a variable that is not to be had.
        """
        return revealed(self.urls[name].get_secret_value(), key=f"notify.urls.{name}")

    def routing(self) -> Routing:
        """Return who is told of which failures."""
        return Routing(tuple(self.urls), tuple(rule.rule() for rule in self.rules))

    @property
    def alarm_channels(self) -> tuple[str, ...]:
        """The channels that are told of trouble."""
        return tuple(self.urls) if self.alarms is None else self.alarms
