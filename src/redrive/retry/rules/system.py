"""Python's own exceptions, and what the operating system reports by errno."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from redrive.retry.kinds import Kind
from redrive.retry.rules.rule_verdict import RuleVerdict, by_class, short_name

__all__ = ["BUGS", "ERRNO", "ERRNO_NAMES", "STANDARD", "read_bug", "read_standard"]


def _all(kind: Kind, names: Iterable[str]) -> dict[str, Kind]:
    return dict.fromkeys(names, kind)


# The standard library's classes that say clearly what happened.
STANDARD: dict[str, Kind] = {
    "builtins.TimeoutError": Kind.TIMEOUT,
    "subprocess.TimeoutExpired": Kind.TIMEOUT,
    # Named by class as well as by errno: code may raise them without one.
    "builtins.ConnectionError": Kind.TRANSIENT,
    "builtins.BlockingIOError": Kind.TRANSIENT,
    "builtins.InterruptedError": Kind.TRANSIENT,
    # So confluent-kafka calls a queue that is full.
    "builtins.BufferError": Kind.TRANSIENT,
    "builtins.FileNotFoundError": Kind.PERMANENT,
    "builtins.PermissionError": Kind.PERMANENT,
    "builtins.FileExistsError": Kind.PERMANENT,
    "builtins.IsADirectoryError": Kind.PERMANENT,
    "builtins.NotADirectoryError": Kind.PERMANENT,
    "builtins.ChildProcessError": Kind.PERMANENT,
    "builtins.ProcessLookupError": Kind.PERMANENT,
    "io.UnsupportedOperation": Kind.PERMANENT,
    # Their errno is not the system's, so they are named here: names that do not resolve now may
    # in a moment (a service that is just starting).
    "socket.gaierror": Kind.TRANSIENT,
    "socket.herror": Kind.TRANSIENT,
    "ssl.SSLCertVerificationError": Kind.PERMANENT,
    "ssl.SSLEOFError": Kind.TRANSIENT,
    "ssl.SSLZeroReturnError": Kind.TRANSIENT,
    "ssl.SSLSyscallError": Kind.TRANSIENT,
    "ssl.SSLWantReadError": Kind.TRANSIENT,
    "ssl.SSLWantWriteError": Kind.TRANSIENT,
    "ssl.SSLError": Kind.UNKNOWN,
    # The other side stopped in the middle of an answer.
    "asyncio.IncompleteReadError": Kind.TRANSIENT,
    "http.IncompleteRead": Kind.TRANSIENT,
    "http.BadStatusLine": Kind.TRANSIENT,
    "http.InvalidURL": Kind.PERMANENT,
    # The program is told to stop: nothing of it is tried again.
    "builtins.KeyboardInterrupt": Kind.CANCELLED,
    "builtins.GeneratorExit": Kind.CANCELLED,
    "asyncio.CancelledError": Kind.CANCELLED,
    # The code itself called exit, and will again. (A worker handles the signals that stop it.)
    "builtins.SystemExit": Kind.PERMANENT,
    # Memory may have been taken by a neighbour: one retry, then a person.
    "builtins.MemoryError": Kind.UNKNOWN,
    "builtins.RecursionError": Kind.PERMANENT,
}

# Signs of a bug, or of input that does not fit: the same call fails the same way. They are weak:
# `raise ValueError("no answer") from ConnectError(…)` is as transient as its cause.
BUGS: dict[str, Kind] = {
    # Text that does not parse is often a model's slip or a body cut short: worth one retry.
    "json.JSONDecodeError": Kind.UNKNOWN,
    **_all(
        Kind.PERMANENT,
        (
            "builtins.ArithmeticError",
            "builtins.AssertionError",
            "builtins.AttributeError",
            "builtins.ImportError",
            "builtins.LookupError",
            "builtins.NameError",
            "builtins.NotImplementedError",
            "builtins.ReferenceError",
            "builtins.StopAsyncIteration",
            "builtins.StopIteration",
            "builtins.SyntaxError",
            "builtins.TypeError",
            "builtins.ValueError",
        ),
    ),
    # RuntimeError, EOFError, OSError without errno and plain Exception say too little: unknown.
}

# By name: not every system has every number.
_TRANSIENT = (
    "EADDRINUSE EADDRNOTAVAIL EAGAIN EBUSY ECONNABORTED ECONNREFUSED ECONNRESET EDEADLK EHOSTDOWN "
    "EHOSTUNREACH EINPROGRESS EINTR EIO EMFILE ENETDOWN ENETRESET ENETUNREACH ENFILE ENOBUFS "
    "ENOLCK ENOMEM ENOTCONN EPIPE ESHUTDOWN ESTALE ETXTBSY EWOULDBLOCK"
)
_TIMEOUT = "ETIME ETIMEDOUT"
_PERMANENT = (
    "E2BIG EACCES EAFNOSUPPORT ECHILD EDESTADDRREQ EEXIST EFBIG EINVAL EISDIR ELOOP EMSGSIZE "
    "ENAMETOOLONG ENODEV ENOENT ENOEXEC ENOPROTOOPT ENOSYS ENOTDIR ENOTEMPTY ENOTSOCK ENOTSUP "
    "ENXIO EOPNOTSUPP EPERM EPROTONOSUPPORT EPROTOTYPE EROFS ESPIPE ESRCH EXDEV"
)
# A full disk rarely empties within a backoff, but another run's temporary file may go, or another
# worker take the retry: one retry, then a person.
_UNKNOWN = "EDQUOT ENOSPC"

ERRNO_NAMES: dict[str, Kind] = {
    name: kind
    for kind, names in (
        (Kind.TRANSIENT, _TRANSIENT),
        (Kind.TIMEOUT, _TIMEOUT),
        (Kind.PERMANENT, _PERMANENT),
        (Kind.UNKNOWN, _UNKNOWN),
    )
    for name in names.split()
}
ERRNO: dict[int, Kind] = {
    getattr(errno, name): kind for name, kind in ERRNO_NAMES.items() if hasattr(errno, name)
}


def read_standard(exc: BaseException) -> RuleVerdict | None:
    """Judge by the standard library's classes, then by errno."""
    verdict = by_class(exc, STANDARD)
    if verdict is not None or not isinstance(exc, OSError):
        return verdict
    number = exc.errno
    if not isinstance(number, int) or number not in ERRNO:
        return None
    name = errno.errorcode.get(number, str(number))
    kind = ERRNO[number]
    return RuleVerdict(kind, f"errno:{name}", f"{short_name(exc)} with {name} is {kind.value}")


def read_bug(exc: BaseException) -> RuleVerdict | None:
    """Judge by Python's general classes; what this says, a cause may overrule."""
    return by_class(exc, BUGS, weak=True)
