"""The settings `security.*`: whose records are believed."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from redrive.errors import SettingsError
from redrive.secret_values import is_reference, revealed
from redrive.signatures import (
    MIN_KEY_BYTES,
    Require,
    Rights,
    Signer,
    Trust,
    Verifier,
    is_key_name,
)
from redrive.units import Listed

__all__ = ["ProducerSettings", "SecuritySettings", "signing_secret"]


class ProducerSettings(BaseModel):
    """What a key may do, by its name; a key without such a table may do everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workflows: Listed[str] = Field(
        description="The workflows that events of this key may start: ids, or patterns with `*`, "
        "`?` and `[…]`."
    )
    letters: bool = Field(
        default=False,
        description="Whether letters, and what is said of them, count where this key signed it.",
    )


class SecuritySettings(BaseModel):
    """Whose records are believed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signing_keys: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Keys by name, each a secret of at least 32 bytes: `file:…` or `env:…`. All of "
        "them verify.",
    )
    sign_with: str | None = Field(
        None,
        description="The name of the key that signs what is written here; by default the only one.",
    )
    require: Require = Field(
        Require.OFF,
        description="What is done about events, letters and states that are not signed, or "
        "wrongly: `off` nothing, `warn` logs and counts, `refuse` lets none of them count.",
    )
    producers: dict[str, ProducerSettings] = Field(
        default_factory=dict, description="What single keys may do."
    )

    @field_validator("signing_keys")
    @classmethod
    def _are_keys(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, secret in keys.items():
            if not is_key_name(name):
                raise ValueError(
                    f"{name[:80]!r} is no name of a key: letters, digits, dots, _ and -, at most 64"
                )
            given = secret.get_secret_value()
            if not is_reference(given):
                signing_secret(given, name)
        return keys

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        known = ", ".join(self.signing_keys) or "none"
        named = [*self.producers, *([] if self.sign_with is None else [self.sign_with])]
        for name in named:
            if name not in self.signing_keys:
                raise ValueError(
                    f"sign_with or producers names the key {name!r}, and security.signing_keys has "
                    f"none of that name; known: {known}"
                )
        if self.sign_with is None and len(self.signing_keys) > 1:
            raise ValueError(
                f"there are several signing_keys ({known}): say which one sign_with is"
            )
        if self.require is not Require.OFF and not self.signing_keys:
            raise ValueError(
                f"require = {self.require.value} needs a key that signatures are verified with: "
                "set signing_keys"
            )
        return self

    def trust(self, *, for_letters: bool = False) -> Trust:
        """Return who signs, and what is believed; reads the secrets from where they lie.

        Args:
            for_letters: Whether letters, or what is said of them, are to be signed.

        Raises:
            SettingsError: A secret is not to be had, or too short; or the key that signs may not
                speak of letters.
        """
        if not self.signing_keys:
            return Trust()
        keys = {name: self._secret(name) for name in self.signing_keys}
        with_name = self.sign_with or next(iter(keys))
        rights = {
            name: Rights(tuple(given.workflows), given.letters)
            for name, given in self.producers.items()
        }
        verifier = Verifier(keys, self.require, rights)
        if for_letters and not verifier.rights_of(with_name).letters:
            raise SettingsError(
                f"security.sign_with: key {with_name!r} may not speak of letters, and that is done "
                f"here: name another key, or set security.producers.{with_name}.letters"
            )
        return Trust(Signer(with_name, keys[with_name]), verifier)

    def _secret(self, name: str) -> bytes:
        key = f"security.signing_keys.{name}"
        text = revealed(self.signing_keys[name].get_secret_value(), key=key)
        try:
            return signing_secret(text, name)
        except ValueError as error:
            raise SettingsError(f"{key}: {error}") from None


def signing_secret(text: str, name: str) -> bytes:
    """Return a key's secret.

    Raises:
        ValueError: It is too short.
    """
    secret = text.encode()
    if len(secret) < MIN_KEY_BYTES:
        # Never the secret, nor a part of it. [P15]
        raise ValueError(
            f"key {name!r} has {len(secret)} bytes, and needs {MIN_KEY_BYTES}: make one with "
            "`openssl rand -base64 32`"
        )
    return secret
