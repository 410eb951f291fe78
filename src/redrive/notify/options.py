"""The settings `notify.*`: which channels there are, and what each of them is told."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from redrive.notify.rules import Routing, Rule
from redrive.secret_values import is_reference, revealed
from redrive.units import Duration, Listed

__all__ = ["NotifyRuleSettings", "NotifySettings"]


class NotifyRuleSettings(BaseModel):
    """Failures that fit all patterns, with `*`, `?` and `[…]`, are told to these channels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: tuple[str, ...] = Field(
        description="Names of channels. An empty list silences: rules after it are not read."
    )
    workflow: str = Field("*", description="Condition: a pattern of the workflow's id.")
    kind: str = Field("*", description="Condition: a pattern of the kind, as `timeout`.")
    reason: str = Field("*", description="Condition: a pattern of the reason, as `result_*`.")
    fingerprint: str = Field("*", description="Condition: a pattern of the fingerprint.")
    count: int = Field(
        1, ge=1, description="Condition: so many equal failures within the window, or more."
    )

    def rule(self) -> Rule:
        """Return the rule as `redrive.notify` takes it."""
        return Rule(
            self.to,
            workflow=self.workflow,
            kind=self.kind,
            reason=self.reason,
            fingerprint=self.fingerprint,
            count=self.count,
        )


class NotifySettings(BaseModel):
    """Who is told of dead letters, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: dict[str, SecretStr] = Field(
        default_factory=dict,
        description='Channels, as URLs of apprise: named, as `team = "slack://…"` in '
        "`[notify.urls]`, or a list, whose names are those of the services. Secrets: give them as "
        "`REDRIVE_NOTIFY__URLS__TEAM`.",
    )
    window: Duration = Field(
        timedelta(minutes=5),
        ge=timedelta(seconds=1),
        description="After the first of equal failures further ones are told together, so often.",
    )
    many_letters: int = Field(
        100,
        ge=0,
        description="So many letters of a worker within the window are told of; 0: never.",
    )
    crashes: int = Field(
        3, ge=1, description="So many deaths of a worker in a row are told of, by its parent."
    )
    alarms: Listed[str] | None = Field(
        None,
        description="The channels that are told of many letters, spooled letters and crashes; by "
        "default all of them.",
    )
    timeout: Duration = Field(
        timedelta(seconds=10), gt=timedelta(0), description="How long sending one message may take."
    )
    hook: str | None = Field(
        None, description="A function of yours, called with each letter: module:function."
    )
    rules: tuple[NotifyRuleSettings, ...] = Field(
        (),
        description="Which failures go to which channels; see below. A channel that no rule names "
        "is told everything.",
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
