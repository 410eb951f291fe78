"""Databases: SQLSTATE (psycopg, asyncpg), sqlite3, SQLAlchemy and redis."""

from __future__ import annotations

from redrive.retry.kinds import Kind
from redrive.retry.rules.rule_verdict import (
    RuleVerdict,
    class_names,
    look,
    look_int,
    look_str,
    short_name,
)

__all__ = ["CLASSES", "REDIS", "SQLITE", "SQLSTATE", "SQLSTATE_CLASS", "read_database"]

CLASSES: dict[str, Kind] = {
    "psycopg_pool.PoolTimeout": Kind.TIMEOUT,
    "psycopg_pool.PoolClosed": Kind.PERMANENT,
    "psycopg_pool.TooManyRequests": Kind.TRANSIENT,
    "psycopg.ConnectionTimeout": Kind.TIMEOUT,
    "psycopg.OperationalError": Kind.TRANSIENT,
    "psycopg.IntegrityError": Kind.PERMANENT,
    "psycopg.ProgrammingError": Kind.PERMANENT,
    "psycopg.DataError": Kind.PERMANENT,
    "psycopg.NotSupportedError": Kind.PERMANENT,
    "asyncpg.InterfaceError": Kind.UNKNOWN,
    "sqlite3.IntegrityError": Kind.PERMANENT,
    "sqlite3.ProgrammingError": Kind.PERMANENT,
    "sqlite3.DataError": Kind.PERMANENT,
    "sqlite3.NotSupportedError": Kind.PERMANENT,
    "sqlalchemy.OperationalError": Kind.TRANSIENT,
    "sqlalchemy.DisconnectionError": Kind.TRANSIENT,
    "sqlalchemy.TimeoutError": Kind.TIMEOUT,
    "sqlalchemy.IntegrityError": Kind.PERMANENT,
    "sqlalchemy.ProgrammingError": Kind.PERMANENT,
    "sqlalchemy.DataError": Kind.PERMANENT,
    "sqlalchemy.NotSupportedError": Kind.PERMANENT,
    "sqlalchemy.ArgumentError": Kind.PERMANENT,
    "sqlalchemy.InvalidRequestError": Kind.PERMANENT,
    "sqlalchemy.CompileError": Kind.PERMANENT,
    # These three are a ConnectionError to redis; a password does not mend itself.
    "redis.AuthenticationError": Kind.PERMANENT,
    "redis.AuthorizationError": Kind.PERMANENT,
    "redis.ExternalAuthProviderError": Kind.PERMANENT,
    "redis.ConnectionError": Kind.TRANSIENT,
    "redis.TimeoutError": Kind.TIMEOUT,
    "redis.ClusterDownError": Kind.TRANSIENT,
    "redis.AskError": Kind.TRANSIENT,
    "redis.TryAgainError": Kind.TRANSIENT,
    "redis.ReadOnlyError": Kind.TRANSIENT,
    "redis.SlotNotCoveredError": Kind.TRANSIENT,
    "redis.WatchError": Kind.TRANSIENT,
    "redis.OutOfMemoryError": Kind.UNKNOWN,
    "redis.LockError": Kind.UNKNOWN,
    "redis.ResponseError": Kind.PERMANENT,
    "redis.DataError": Kind.PERMANENT,
}

# PostgreSQL's appendix A, "Error Codes"; whole codes first, then their two-letter classes.
SQLSTATE: dict[str, Kind] = {
    "25006": Kind.TRANSIENT,  # read-only: connected to a standby during a failover
    "25P03": Kind.TRANSIENT,  # idle in transaction for too long
    "25P04": Kind.TIMEOUT,
    "40002": Kind.PERMANENT,  # an integrity constraint, not a conflict
    "55P03": Kind.TRANSIENT,  # lock not available
    "57014": Kind.TIMEOUT,  # statement_timeout cancels the query
    "57P01": Kind.TRANSIENT,
    "57P02": Kind.TRANSIENT,
    "57P03": Kind.TRANSIENT,
    "57P05": Kind.TRANSIENT,
    "58030": Kind.UNKNOWN,
}
SQLSTATE_CLASS: dict[str, Kind] = {
    **dict.fromkeys(("08", "40", "53"), Kind.TRANSIENT),
    **dict.fromkeys(("57", "58", "HV", "XX"), Kind.UNKNOWN),
    **dict.fromkeys(("0A", "0B", "0F", "0L", "0P"), Kind.PERMANENT),
    **dict.fromkeys((f"{number}" for number in range(20, 29)), Kind.PERMANENT),
    **dict.fromkeys(("2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F"), Kind.PERMANENT),
    **dict.fromkeys(("42", "44", "54", "55"), Kind.PERMANENT),
}

# https://www.sqlite.org/rescode.html; the low byte of an extended code is the primary one.
SQLITE: dict[int, tuple[str, Kind]] = {
    1: ("SQLITE_ERROR", Kind.PERMANENT),
    5: ("SQLITE_BUSY", Kind.TRANSIENT),
    6: ("SQLITE_LOCKED", Kind.TRANSIENT),
    8: ("SQLITE_READONLY", Kind.PERMANENT),
    10: ("SQLITE_IOERR", Kind.UNKNOWN),
    11: ("SQLITE_CORRUPT", Kind.PERMANENT),
    13: ("SQLITE_FULL", Kind.UNKNOWN),
    14: ("SQLITE_CANTOPEN", Kind.UNKNOWN),
    15: ("SQLITE_PROTOCOL", Kind.TRANSIENT),
    17: ("SQLITE_SCHEMA", Kind.TRANSIENT),
    26: ("SQLITE_NOTADB", Kind.PERMANENT),
}

# The codes that redis-py has no class for: the first word of the answer, by redis's convention.
REDIS: dict[str, Kind] = {
    "BUSY": Kind.TRANSIENT,  # a script keeps the server to itself
    "NOREPLICAS": Kind.TRANSIENT,
    "MISCONF": Kind.UNKNOWN,  # it cannot write to its disk
}


def read_database(exc: BaseException) -> RuleVerdict | None:
    """Judge by the code that the database sent; SQLAlchemy keeps the driver's error in `orig`."""
    if look(exc, "connection_invalidated") is True:
        name = short_name(exc)
        return RuleVerdict(
            Kind.TRANSIENT, "attribute:connection_invalidated", f"{name} lost its server"
        )
    orig = look(exc, "orig")
    inner = orig if isinstance(orig, BaseException) else exc
    return _read_sqlstate(inner) or _read_sqlite(inner) or _read_redis(exc)


def _read_sqlstate(exc: BaseException) -> RuleVerdict | None:
    state = look_str(exc, "sqlstate") or look_str(exc, "pgcode")
    if state is None:
        return None
    kind = SQLSTATE.get(state) or SQLSTATE_CLASS.get(state[:2])
    if kind is None:
        return None
    return RuleVerdict(
        kind, f"sqlstate:{state}", f"{short_name(exc)} with SQLSTATE {state} is {kind.value}"
    )


def _read_sqlite(exc: BaseException) -> RuleVerdict | None:
    code = look_int(exc, "sqlite_errorcode")
    if code is None or "sqlite3.Error" not in class_names(exc):
        return None
    found = SQLITE.get(code & 0xFF)
    if found is None:
        return None
    name, kind = found
    return RuleVerdict(kind, f"sqlite:{name}", f"{short_name(exc)} with {name} is {kind.value}")


def _read_redis(exc: BaseException) -> RuleVerdict | None:
    answer = exc.args[0] if exc.args else None
    if short_name(exc) != "redis.ResponseError" or not isinstance(answer, str):
        return None
    code = answer.partition(" ")[0]
    kind = REDIS.get(code)
    if kind is None:
        return None
    return RuleVerdict(kind, f"redis:{code}", f"{short_name(exc)} with {code} is {kind.value}")
