"""How checkpoints are serialised: LangGraph's own way, one of the user's, or encrypted.

LangGraph's own way is strict here: nothing is unpickled, and a type that is not allowed is neither
made nor stored. It is refused in words, and no dict takes the place of a model. [P15]
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, cast

import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_DELTA_SNAPSHOT,
    EXT_PYDANTIC_V1,
    EXT_PYDANTIC_V2,
    JsonPlusSerializer,
    _create_msgpack_ext_hook,
)

from redrive.errors import MissingExtraError, PermanentError, SettingsError, StateTypeError
from redrive.graphs.import_paths import first_line, import_target
from redrive.graphs.state_types import AllowedTypes, GraphTypes, TypeName
from redrive.secret_values import revealed

if TYPE_CHECKING:
    from pydantic import SecretStr

    from redrive.graphs.graph_settings import CheckpointSettings

__all__ = ["StrictSerializer", "serializer_of"]

_KEY_BYTES = (16, 24, 32)


class StrictSerializer(JsonPlusSerializer):
    """LangGraph's serialiser, which makes and stores no type that `allowed` does not hold.

    It reads and writes the same bytes.
    """

    def __init__(self, allowed: AllowedTypes) -> None:
        super().__init__(pickle_fallback=False, allowed_msgpack_modules=None)
        self._allowed = allowed
        # LangGraph asks for nothing but `in`; its own set could not grow, nor tell what it refused.
        self._unpack_ext_hook = _create_msgpack_ext_hook(cast("set[tuple[str, ...]]", allowed))

    def with_msgpack_allowlist(
        self, extra_allowlist: Iterable[tuple[str, ...] | type]
    ) -> StrictSerializer:
        """Allow these too: what LangGraph found, with LANGGRAPH_STRICT_MSGPACK."""
        names = (
            (one.__module__, one.__name__) if isinstance(one, type) else (str(one[0]), str(one[-1]))
            for one in extra_allowlist
        )
        self._allowed.add(GraphTypes(named=frozenset(names)))
        return self

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:  # noqa: ANN401 - LangGraph's
        """Serialise.

        Raises:
            StateTypeError: It holds a type that could not be read again.
        """
        form, data = super().dumps_typed(obj)
        if form == "msgpack" and _MAY_NAME_TYPES.search(data):
            with self._allowed.asked() as refused:
                _ask(data, self._allowed)
            if refused:
                raise StateTypeError(_dotted(refused))
        return form, data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:  # noqa: ANN401 - LangGraph's
        """Read back.

        Raises:
            StateTypeError: It names a type that is not allowed.
        """
        with self._allowed.asked() as refused:
            value = super().loads_typed(data)
        if refused:
            place = _place_of(refused, data[1])
            raise StateTypeError(_dotted(refused), place=place, stored=True)
        return value


# The first bytes of what msgpack calls extensions. Texts and numbers are passed by quickly.
_MAY_NAME_TYPES = re.compile(rb"[\xc7-\xc9\xd4-\xd8]")
_NAMES_TYPE = frozenset(
    {
        EXT_CONSTRUCTOR_SINGLE_ARG,
        EXT_CONSTRUCTOR_POS_ARGS,
        EXT_CONSTRUCTOR_KW_ARGS,
        EXT_PYDANTIC_V1,
        EXT_PYDANTIC_V2,
    }
)


class _Refused:
    """Stands for what a refused type was made of."""


def _ask(data: bytes, allowed: AllowedTypes) -> None:
    """Ask about each type that is named at any depth, without making any."""

    def ask(code: int, inner: bytes) -> None:
        found = _unpacked(inner, ask)
        if code in _NAMES_TYPE and (found[0], found[1]) not in SAFE_MSGPACK_TYPES:
            (found[0], found[1]) in allowed  # noqa: B015 - it notes what it refuses

    _unpacked(data, ask)


def _place_of(refused: Collection[TypeName], data: bytes) -> str | None:
    """Return the key of the state that holds the first of them, of a whole checkpoint."""

    def mark(code: int, inner: bytes) -> object:
        if code == EXT_DELTA_SNAPSHOT:
            return _unpacked(inner, mark)
        found = _unpacked(inner, mark)
        is_refused = code in _NAMES_TYPE and (found[0], found[1]) in refused
        # A dict's key has to have a hash.
        return _Refused() if is_refused else _Parts(found[2:])

    tree = _unpacked(data, mark)
    values = tree.get("channel_values") if isinstance(tree, dict) else None
    for key, value in (values or {}).items():
        if _holds_refused(value):
            return f"state[{key!r}]"
    return None


class _Parts:
    """What a type is made of."""

    def __init__(self, parts: object) -> None:
        self.parts = parts


def _holds_refused(value: object) -> bool:
    left: list[object] = [value]
    while left:
        match left.pop():
            case _Refused():
                return True
            case _Parts() as found:
                left.append(found.parts)
            case dict() as found:
                left += [*found, *found.values()]
            case list() | tuple() as found:
                left += found
    return False


def _unpacked(data: bytes, hook: Any) -> Any:  # noqa: ANN401 - whatever it holds
    return ormsgpack.unpackb(data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)


def _dotted(names: Collection[TypeName]) -> tuple[str, ...]:
    return tuple(".".join(name) for name in names)


def serializer_of(settings: CheckpointSettings, allowed: AllowedTypes) -> SerializerProtocol:
    """Return what `checkpoints.serializer` and `checkpoints.encryption_key` ask for.

    Checkpoints that were stored before there was a key are still read.

    Raises:
        SettingsError: It cannot be imported or made, or the key has no length of AES.
        MissingExtraError: Encryption needs `redrive[encryption]`.
    """
    if settings.encryption_key is None and settings.old_encryption_keys:
        raise SettingsError(
            "checkpoints.old_encryption_keys without checkpoints.encryption_key: say which key "
            "is to be used from now on"
        )
    named = settings.serializer
    inner = StrictSerializer(allowed) if named is None else _imported(named)
    if settings.encryption_key is None:
        return inner
    old = (("checkpoints.old_encryption_keys", key) for key in settings.old_encryption_keys)
    keys = [("checkpoints.encryption_key", settings.encryption_key), *old]
    return EncryptedSerializer(_CipherKeys([_cipher(name, key) for name, key in keys]), inner)


class _CipherKeys(CipherProtocol):
    """Encrypts with the first key, and decrypts with the one that fits."""

    def __init__(self, ciphers: list[CipherProtocol]) -> None:
        self._ciphers = ciphers

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return self._ciphers[0].encrypt(plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        for cipher in self._ciphers:
            # What does not fit is found out by its tag: AES in EAX mode.
            with contextlib.suppress(ValueError):
                return cipher.decrypt(ciphername, ciphertext)
        raise PermanentError(
            "a checkpoint is encrypted with a key that is not set, or was changed: name the key "
            "in checkpoints.encryption_key, or in checkpoints.old_encryption_keys"
        )


def _cipher(name: str, secret: SecretStr) -> CipherProtocol:
    key = revealed(secret.get_secret_value(), key=name).encode()
    if len(key) not in _KEY_BYTES:
        raise SettingsError(f"{name} has {len(key)} bytes: AES takes 16, 24 or 32")
    try:
        return EncryptedSerializer.from_pycryptodome_aes(key=key).cipher
    except ImportError as error:
        raise MissingExtraError(module="pycryptodome", extra="encryption") from error


def _imported(target: str) -> SerializerProtocol:
    what = "checkpoints.serializer"
    found = import_target(target, what=what)
    if inspect.isclass(found) or (callable(found) and not isinstance(found, SerializerProtocol)):
        try:
            found = found()
        except Exception as error:
            raise SettingsError(
                f"{what}: {target} raised when it was called ({first_line(error)})"
            ) from error
    if not isinstance(found, SerializerProtocol):
        raise SettingsError(
            f"{what}: {target} is a {type(found).__name__}: name a serializer with dumps_typed and "
            "loads_typed, or what makes one without arguments"
        )
    return found
