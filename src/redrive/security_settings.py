"""The settings `security.*`: whose records are believed, and what encrypts payloads."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from redrive.errors import SettingsError
from redrive.payloads import CLEAR, Payloads, codec_made, key_bytes
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

MAX_CODEC_KEY_CHARS = 32
"""Of the name of a key that encrypts. A key itself, given without a name, is longer. [P15]"""


class ProducerSettings(BaseModel):
    """What a key may do, by its name. A key without such a table may do everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workflows: Listed[str] = Field(
        description="The workflows that events of this key may start: ids, or patterns with `*`, "
        "`?` and `[…]`."
    )
    letters: bool = Field(
        default=False,
        description="Whether letters and letter states that this key signed are accepted.",
    )


class SecuritySettings(BaseModel):
    """Whose records are trusted, and how payloads are encrypted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signing_keys: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Keys by name, each a secret of at least 32 bytes: `file:…` or `env:…`. All "
        "of them verify signatures.",
    )
    sign_with: str | None = Field(
        None,
        description="The name of the key to sign with. Default: the only key.",
    )
    require: Require = Field(
        Require.OFF,
        description="What to do with events, letters and states whose signature is missing or "
        "wrong: `off` accepts them, `warn` accepts, logs and counts them, `refuse` rejects them.",
    )
    producers: dict[str, ProducerSettings] = Field(
        default_factory=dict, description="What each key may do."
    )

    codec: str | None = Field(
        None,
        description="Import path of the codec that encrypts the payloads of events, results and "
        "letters: `redrive.codec:AesGcm` (needs `redrive[encryption]`), or one of your own. "
        "Default: payloads are not encrypted.",
    )
    encryption_keys: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="The codec's keys by name, 32 bytes each in base64 or hex: the first "
        "encrypts, all decrypt. Set them in `[security.encryption_keys]`, as in `2026 = "
        '"file:/run/secrets/redrive-2026"`, or as a JSON object.',
    )
    encode: bool = Field(
        True,  # noqa: FBT003 - the default of a setting
        description="Whether payloads are encrypted. `false` only decrypts: use it while a new "
        "codec or key is being rolled out to all readers.",
    )

    @field_validator("signing_keys")
    @classmethod
    def _are_keys(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, secret in keys.items():
            if not is_key_name(name):
                raise ValueError(
                    f"{name[:80]!r} is not a name for a key: use letters, digits, dots, _ and -, "
                    "at most 64"
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
            raise ValueError(f"there are several signing_keys ({known}): choose one with sign_with")
        if self.require is not Require.OFF and not self.signing_keys:
            raise ValueError(
                f"require = {self.require.value} needs a key that signatures are verified with: "
                "set signing_keys"
            )
        return self

    @field_validator("encryption_keys")
    @classmethod
    def _are_named(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in keys:
            # It stands in each record. What was given without a name would be its own.
            if not is_key_name(name) or len(name) > MAX_CODEC_KEY_CHARS:
                raise ValueError(
                    'name each key, in letters, digits, ".", "_" and "-", at most 32 of them: '
                    '{"2026": "file:/run/secrets/redrive-2026"}'
                )
        return keys

    @model_validator(mode="after")
    def _have_a_codec(self) -> Self:
        if self.encryption_keys and self.codec is None:
            raise ValueError(
                "encryption_keys without codec: say what encrypts with them, as "
                'codec = "redrive.codec:AesGcm"'
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

    def payloads(self) -> Payloads:
        """Return what seals and opens payloads; reads the keys from where they lie.

        Raises:
            SettingsError: The codec cannot be imported or made, or a key is not to be had.
            MissingExtraError: AES-GCM needs `redrive[encryption]`.
        """
        if self.codec is None:
            return CLEAR
        keys = {name: self._encryption_key(name) for name in self.encryption_keys}
        codec = codec_made(self.codec, keys, what="security.codec")
        return Payloads(codec, encodes=self.encode)

    def _encryption_key(self, name: str) -> bytes:
        setting = f"security.encryption_keys.{name}"
        text = revealed(self.encryption_keys[name].get_secret_value(), key=setting)
        try:
            return key_bytes(text)
        except ValueError as error:
            raise SettingsError(f"{setting} {error}") from None


def signing_secret(text: str, name: str) -> bytes:
    """Return a key's secret.

    Raises:
        ValueError: It is too short, or no UTF-8.
    """
    try:
        secret = text.encode()
    except UnicodeEncodeError:
        # Its text names characters of the secret. [P15]
        raise ValueError(f"key {name!r} is not UTF-8 text") from None
    if len(secret) < MIN_KEY_BYTES:
        # Never the secret, nor a part of it. [P15]
        raise ValueError(
            f"key {name!r} has {len(secret)} bytes, and needs {MIN_KEY_BYTES}: make one with "
            "`openssl rand -base64 32`"
        )
    return secret
