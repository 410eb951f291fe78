"""What the clients of databases raise, against ports of this machine."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import psycopg_pool
import redis
import sqlalchemy
import sqlalchemy.exc
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.pool import QueuePool
from tests.unit.real_errors.conftest import (
    HOST,
    IMPATIENCE_S,
    PATIENCE_S,
    Row,
    Service,
    replying,
)

from redrive.retry import Kind

SQLSTATES = {
    "08006": Kind.TRANSIENT,
    "25006": Kind.TRANSIENT,
    "25P03": Kind.TRANSIENT,
    "40001": Kind.TRANSIENT,
    "40P01": Kind.TRANSIENT,
    "53100": Kind.TRANSIENT,
    "53300": Kind.TRANSIENT,
    "55P03": Kind.TRANSIENT,
    "57P01": Kind.TRANSIENT,
    "57P03": Kind.TRANSIENT,
    "57014": Kind.TIMEOUT,
    "0A000": Kind.PERMANENT,
    "22001": Kind.PERMANENT,
    "22P02": Kind.PERMANENT,
    "23502": Kind.PERMANENT,
    "23505": Kind.PERMANENT,
    "25P02": Kind.PERMANENT,
    "28P01": Kind.PERMANENT,
    "3D000": Kind.PERMANENT,
    "42501": Kind.PERMANENT,
    "42601": Kind.PERMANENT,
    "42P01": Kind.PERMANENT,
    "58030": Kind.UNKNOWN,
    "XX000": Kind.UNKNOWN,
}


def _postgres(port: int) -> None:
    psycopg.connect(host=HOST, port=port, user="u", dbname="d", sslmode="disable").close()


def _refuses_the_login(sqlstate: bytes) -> bytes:
    """Write PostgreSQL's ErrorResponse to a client that wants to connect."""
    fields = b"SFATAL\0VFATAL\0C" + sqlstate + b"\0Mtold\0\0"
    return b"E" + struct.pack(">I", len(fields) + 4) + fields


def _postgres_login_row(kind: Kind, sqlstate: bytes) -> Row:
    def fail(_service: Service) -> None:
        with replying(_refuses_the_login(sqlstate)) as port:
            _postgres(port)

    return Row("psycopg", f"login-{sqlstate.decode()}", fail, kind)


def _sqlstate_rows(sqlstate: str, kind: Kind) -> list[Row]:
    error = psycopg.errors.lookup(sqlstate)("told")

    def driver(_service: Service) -> None:
        raise error

    def engine(_service: Service) -> None:
        raise sqlalchemy.exc.DBAPIError.instance("select 1", {}, error, psycopg.Error)

    return [
        Row("psycopg", sqlstate, driver, kind),
        Row("sqlalchemy", f"psycopg-{sqlstate}", engine, kind),
    ]


def _wait_for_a_pool(service: Service) -> None:
    address = f"host={HOST} port={service.closed_port} user=u dbname=d"
    with psycopg_pool.ConnectionPool(address, open=False, min_size=1) as pool:
        pool.getconn(timeout=IMPATIENCE_S)


def _engine(url: str, *statements: str, **options: object) -> None:
    engine = sqlalchemy.create_engine(url, **options)
    try:
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(sqlalchemy.text(statement))
    finally:
        engine.dispose()


def _refused_engine(service: Service) -> None:
    _engine(f"postgresql+psycopg://u:p@{HOST}:{service.closed_port}/d?sslmode=disable")


def _empty_engine_pool(_service: Service) -> None:
    engine = sqlalchemy.create_engine(
        "sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=IMPATIENCE_S
    )
    try:
        with engine.connect():
            engine.connect()
    finally:
        engine.dispose()


def _locked(ask: Callable[[Path], None]) -> Callable[[Service], None]:
    def fail(_service: Service) -> None:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "d.sqlite"
            with closing(sqlite3.connect(file)) as owner:
                owner.execute("begin exclusive")
                ask(file)

    return fail


def _sqlite(*statements: str, file: str | Path = ":memory:") -> None:
    with closing(sqlite3.connect(file, timeout=0)) as connection:
        for statement in statements:
            connection.execute(statement)


TABLE = ("create table t (a integer primary key)", "insert into t values (1)")

SQL = [
    *(row for sqlstate, kind in SQLSTATES.items() for row in _sqlstate_rows(sqlstate, kind)),
    Row("psycopg", "refused", lambda service: _postgres(service.closed_port), Kind.TRANSIENT),
    # It keeps no code of what happens before the login is done; all of it may pass.
    _postgres_login_row(Kind.TRANSIENT, b"57P03"),
    _postgres_login_row(Kind.TRANSIENT, b"28P01"),
    Row("psycopg_pool", "empty", _wait_for_a_pool, Kind.TIMEOUT),
    Row(
        "psycopg_pool",
        "not-open",
        lambda _: psycopg_pool.ConnectionPool("", open=False).getconn(),
        Kind.PERMANENT,
    ),
    Row("sqlalchemy", "refused", _refused_engine, Kind.TRANSIENT),
    Row("sqlalchemy", "pool-empty", _empty_engine_pool, Kind.TIMEOUT),
    Row("sqlalchemy", "no-url", lambda _: _engine("none"), Kind.PERMANENT),
    Row(
        "sqlalchemy", "no-table", lambda _: _engine("sqlite://", "select * from t"), Kind.PERMANENT
    ),
    Row(
        "sqlalchemy",
        "same-key",
        lambda _: _engine("sqlite://", *TABLE, TABLE[1]),
        Kind.PERMANENT,
    ),
    Row(
        "sqlalchemy",
        "locked",
        _locked(
            lambda file: _engine(
                f"sqlite:///{file}", "select * from t", connect_args={"timeout": 0}
            )
        ),
        Kind.TRANSIENT,
    ),
    Row("sqlite3", "no-table", lambda _: _sqlite("select * from t"), Kind.PERMANENT),
    Row("sqlite3", "same-key", lambda _: _sqlite(*TABLE, TABLE[1]), Kind.PERMANENT),
    Row("sqlite3", "locked", _locked(lambda file: _sqlite(TABLE[0], file=file)), Kind.TRANSIENT),
    Row("sqlite3", "no-folder", lambda _: _sqlite(file="/nowhere/d.sqlite"), Kind.UNKNOWN),
    Row(
        "sqlite3",
        "not-a-database",
        lambda _: _sqlite("select * from t", file=__file__),
        Kind.PERMANENT,
    ),
]


def _redis(port: int, *, tls: bool = False, patience_s: float = PATIENCE_S) -> None:
    with redis.Redis(
        host=HOST,
        port=port,
        protocol=2,
        driver_info=None,
        ssl=tls,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=patience_s,
        socket_connect_timeout=patience_s,
    ) as client:
        client.get("key")


def _redis_row(kind: Kind, answer: str) -> Row:
    def fail(_service: Service) -> None:
        with replying(f"-{answer}\r\n".encode()) as port:
            _redis(port)

    return Row("redis", answer.partition(" ")[0], fail, kind)


def _redis_is_silent(_service: Service) -> None:
    with replying(b"") as port:
        _redis(port, patience_s=IMPATIENCE_S)


REDIS = [
    _redis_row(Kind.TRANSIENT, "LOADING Redis is loading the dataset in memory"),
    _redis_row(Kind.TRANSIENT, "READONLY You can't write against a read only replica."),
    _redis_row(Kind.TRANSIENT, "MASTERDOWN Link with MASTER is down"),
    _redis_row(Kind.TRANSIENT, "CLUSTERDOWN The cluster is down"),
    _redis_row(Kind.TRANSIENT, "TRYAGAIN Multiple keys request during rehashing of slot"),
    _redis_row(Kind.TRANSIENT, "BUSY Redis is busy running a script."),
    _redis_row(Kind.TRANSIENT, "NOREPLICAS Not enough good replicas to write."),
    _redis_row(Kind.TRANSIENT, "MOVED 1 127.0.0.1:1"),
    _redis_row(Kind.TRANSIENT, "ASK 1 127.0.0.1:1"),
    _redis_row(Kind.UNKNOWN, "OOM command not allowed when used memory > 'maxmemory'."),
    _redis_row(Kind.UNKNOWN, "MISCONF Redis is configured to save RDB snapshots"),
    _redis_row(Kind.PERMANENT, "NOAUTH Authentication required."),
    _redis_row(Kind.PERMANENT, "WRONGPASS invalid username-password pair"),
    _redis_row(Kind.PERMANENT, "NOPERM this user has no permissions"),
    _redis_row(Kind.PERMANENT, "WRONGTYPE Operation against a key holding the wrong kind"),
    _redis_row(Kind.PERMANENT, "CROSSSLOT Keys in request don't hash to the same slot"),
    _redis_row(Kind.PERMANENT, "ERR syntax error"),
    Row("redis", "refused", lambda service: _redis(service.closed_port), Kind.TRANSIENT),
    Row("redis", "hung-up", lambda service: _redis(service.slamming_port), Kind.TRANSIENT),
    Row("redis", "silent", _redis_is_silent, Kind.TIMEOUT),
    Row(
        "redis",
        "never-connected",
        lambda service: _redis(service.full_port, patience_s=IMPATIENCE_S),
        Kind.TIMEOUT,
    ),
    Row(
        "redis",
        "tls-self-signed",
        lambda service: _redis(service.tls_port, tls=True),
        Kind.PERMANENT,
    ),
    Row(
        "redis",
        "tls-broken-off",
        lambda service: _redis(service.slamming_port, tls=True),
        Kind.TRANSIENT,
    ),
]

ROWS = [*SQL, *REDIS]
