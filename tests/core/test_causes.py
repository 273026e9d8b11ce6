from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import http.client
import json
import signal
import socket
import sqlite3
import ssl
import subprocess
import tomllib
import urllib.error
import xml.parsers.expat
from email.message import Message
from types import SimpleNamespace

import pydantic
import pytest

from orchestrator import errors
from orchestrator.core.causes import (
    EXIT_STATUSES,
    SIGNALS,
    code_of,
    code_of_status,
    name_of_signal,
    says_no_memory,
    signal_behind,
)
from orchestrator.errors import CODES


def made(name: str, *args: object, of: type[BaseException] = Exception, **said: object) -> BaseException:
    """An exception of a library that need not be there: its class is known by where it says that it comes from."""
    package, _, last = name.rpartition(".")
    error = type(last, (of,), {"__module__": package})(*args)
    for key, value in said.items():
        setattr(error, key, value)
    return error


def caused(error: BaseException, by: BaseException) -> BaseException:
    error.__cause__ = by
    return error


def raised(call) -> BaseException:
    with pytest.raises(BaseException) as info:
        call()
    return info.value


def http_error(status: int) -> BaseException:
    return urllib.error.HTTPError("http://x", status, "no", Message(), None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Dependency("x"), "DEPENDENCY"),
        (type("Own", (errors.Transient,), {})("x"), "TRANSIENT"),
        (MemoryError(), "RESOURCE"),
        (OSError(errno.ENOSPC, "x"), "RESOURCE"),
        (OSError(errno.EMFILE, "x"), "RESOURCE"),
        (OSError(errno.EHOSTUNREACH, "x"), "TRANSIENT"),
        (OSError(errno.EADDRINUSE, "x"), "CONFLICT"),
        (OSError(errno.EROFS, "x"), "PERMISSION"),
        (NotADirectoryError(errno.ENOTDIR, "x"), "NOT_FOUND"),
        (ConnectionResetError(), "TRANSIENT"),
        (TimeoutError(), "TRANSIENT"),
        (BlockingIOError(errno.EAGAIN, "x"), "TRANSIENT"),
        (BlockingIOError(), "TRANSIENT"),
        (FileNotFoundError(), "NOT_FOUND"),
        (PermissionError(), "PERMISSION"),
        (FileExistsError(), "CONFLICT"),
        (ModuleNotFoundError(), "CONFIGURATION"),
        (RecursionError(), "FAILED"),
        (ValueError(), "FAILED"),
        (KeyboardInterrupt(), "FAILED"),
        (OSError("x"), "FAILED"),
        (asyncio.IncompleteReadError(b"", 3), "TRANSIENT"),
        (concurrent.futures.TimeoutError(), "TRANSIENT"),
        (socket.gaierror(-2, "no such name"), "TRANSIENT"),
        (ssl.SSLError(1, "handshake"), "TRANSIENT"),  # its number is not one of the system's
        (ssl.SSLCertVerificationError(1, "no"), "CONFIGURATION"),
        (http.client.RemoteDisconnected(), "TRANSIENT"),
        (http.client.IncompleteRead(b""), "TRANSIENT"),
        (http_error(404), "NOT_FOUND"),
        (urllib.error.URLError(ConnectionRefusedError()), "TRANSIENT"),
        (urllib.error.URLError(ssl.SSLCertVerificationError(1, "no")), "CONFIGURATION"),
        (urllib.error.URLError("unknown url type"), "FAILED"),
        (subprocess.CalledProcessError(75, "x"), "TRANSIENT"),
        (subprocess.CalledProcessError(127, "x"), "NOT_FOUND"),
        (subprocess.CalledProcessError(-signal.SIGXCPU, "x"), "RESOURCE"),
        (subprocess.CalledProcessError(1, "x"), "FAILED"),
        (subprocess.TimeoutExpired("x", 3), "TIMEOUT"),
        (raised(lambda: json.loads("{")), "VALIDATION"),
        (raised(lambda: tomllib.loads("=")), "VALIDATION"),
        (raised(lambda: b"\xff".decode()), "VALIDATION"),
        (xml.parsers.expat.ExpatError(), "VALIDATION"),
        (raised(lambda: pydantic.TypeAdapter(int).validate_python("x")), "VALIDATION"),
    ],
    ids=repr,
)
def test_of_python_itself(error, code):
    assert code_of(error) == code


HTTP = {
    400: "VALIDATION", 401: "PERMISSION", 403: "PERMISSION", 404: "NOT_FOUND", 408: "TRANSIENT", 409: "CONFLICT",
    410: "NOT_FOUND", 422: "VALIDATION", 429: "TRANSIENT", 500: "TRANSIENT", 503: "TRANSIENT", 304: "FAILED",
}  # fmt: skip


@pytest.mark.parametrize(("status", "code"), HTTP.items())
def test_an_http_status_counts_wherever_a_library_keeps_it(status, code):
    behind = SimpleNamespace(status_code=status)
    assert code_of(http_error(status)) == code
    assert code_of(made("requests.exceptions.HTTPError", of=OSError, response=behind)) == code
    assert code_of(made("httpx.HTTPStatusError", response=behind)) == code
    assert code_of(made("aiohttp.client_exceptions.ClientResponseError", status=status)) == code
    assert code_of(made("openai.APIStatusError", status_code=str(status))) == code


def test_what_a_library_promises_and_does_not_keep_is_no_fault_of_ours():
    assert code_of(made("requests.exceptions.HTTPError", of=OSError)) == "FAILED"
    assert code_of(made("httpx.HTTPStatusError", response=SimpleNamespace(status_code=None))) == "FAILED"
    nasty = type("HTTPStatusError", (Exception,), {"__module__": "httpx", "response": property(lambda self: 1 / 0)})
    assert code_of(nasty()) == "FAILED"
    assert code_of(type("Odd", (Exception,), {"__module__": None})()) == "FAILED"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (made("requests.exceptions.ConnectTimeout", of=type("Timeout", (OSError,), {"__module__": "requests"})), "TRANSIENT"),
        (made("requests.exceptions.SSLError", ssl.SSLCertVerificationError(1, "no")), "CONFIGURATION"),
        (made("urllib3.exceptions.MaxRetryError", reason=PermissionError()), "PERMISSION"),
        (made("urllib3.exceptions.MaxRetryError", reason="too many 500"), "TRANSIENT"),
        (made("psycopg.OperationalError"), "TRANSIENT"),
        (made("psycopg.errors.UniqueViolation", of=type("Error", (Exception,), {"__module__": "psycopg"}), sqlstate="23505"), "CONFLICT"),
        (made("psycopg2.errors.DiskFull", of=type("Error", (Exception,), {"__module__": "psycopg2"}), pgcode="53100"), "RESOURCE"),
        (made("asyncpg.exceptions.PostgresError", sqlstate="57014"), "TIMEOUT"),
        (made("sqlalchemy.exc.OperationalError", of=type("DBAPIError", (Exception,), {"__module__": "sqlalchemy.exc"}), orig=MemoryError()), "RESOURCE"),
        (made("sqlalchemy.exc.OperationalError", of=type("DBAPIError", (Exception,), {"__module__": "sqlalchemy.exc"})), "TRANSIENT"),
        (made("redis.exceptions.TimeoutError"), "TRANSIENT"),
        (made("redis.exceptions.AuthenticationError", of=type("ConnectionError", (Exception,), {"__module__": "redis.exceptions"})), "PERMISSION"),
        (made("botocore.exceptions.NoCredentialsError"), "CONFIGURATION"),
        (made("botocore.exceptions.ClientError", response={"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 400}}), "TRANSIENT"),
        (made("botocore.exceptions.ClientError", response={"Error": {"Code": "Other"}, "ResponseMetadata": {"HTTPStatusCode": 403}}), "PERMISSION"),
        (made("botocore.exceptions.ClientError", response={}), "FAILED"),
        (made("torch.OutOfMemoryError", of=RuntimeError), "RESOURCE"),
        (made("pydantic.error_wrappers.ValidationError", of=ValueError), "VALIDATION"),
        (made("mine.ConnectionError"), "FAILED"),  # the name alone is nobody's
    ],
    ids=repr,
)  # fmt: skip
def test_of_libraries_by_their_names(error, code):
    assert code_of(error) == code


def test_sqlite_says_by_a_number_what_it_is(tmp_path):
    first = sqlite3.connect(tmp_path / "a.db")
    first.execute("create table t (a primary key)")
    first.commit()
    first.execute("begin immediate")
    second = sqlite3.connect(tmp_path / "a.db", timeout=0)
    try:
        assert code_of(raised(lambda: second.execute("insert into t values (1)"))) == "CONFLICT"
        assert code_of(raised(lambda: second.execute("select * from other"))) == "FAILED"
        assert code_of(raised(lambda: sqlite3.connect(tmp_path / "no" / "a.db"))) == "NOT_FOUND"
    finally:
        first.close()
        second.close()


def test_the_outermost_that_says_something_counts():
    assert code_of(caused(RuntimeError("no prices"), ConnectionResetError())) == "TRANSIENT"
    assert code_of(caused(errors.Failed("no"), ConnectionResetError())) == "FAILED"
    assert code_of(caused(FileNotFoundError(), MemoryError())) == "NOT_FOUND"
    assert code_of(caused(KeyError(), caused(ValueError(), PermissionError()))) == "PERMISSION"
    while_handling = KeyError("a mistake in the handler")
    while_handling.__context__ = ConnectionResetError()
    assert code_of(while_handling) == "FAILED"


def test_a_circle_of_causes_comes_to_an_end():
    one, other = ValueError(), KeyError()
    caused(one, other), caused(other, one)
    assert code_of(one) == "FAILED"
    deep = ValueError()
    for _ in range(5000):
        deep = caused(ValueError(), deep)
    assert code_of(deep) == "FAILED"


def test_of_a_group_what_can_never_be_mended_holds_back_the_rest():
    def group(*members: Exception) -> BaseException:
        return ExceptionGroup("some", members)

    assert code_of(group(TimeoutError(), ConnectionResetError())) == "TRANSIENT"
    assert code_of(group(TimeoutError(), ValueError())) == "TRANSIENT"
    assert code_of(group(TimeoutError(), group(PermissionError()))) == "PERMISSION"
    assert code_of(group(errors.Failed("x"), TimeoutError())) == "TRANSIENT"
    assert code_of(group(ValueError(), KeyError())) == "FAILED"
    assert code_of(caused(group(ValueError()), MemoryError())) == "RESOURCE"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (1, None), (2, None), (64, "CONFIGURATION"), (65, "VALIDATION"), (66, "NOT_FOUND"), (69, "DEPENDENCY"), (70, None),
        (71, "RESOURCE"), (75, "TRANSIENT"), (77, "PERMISSION"), (78, "CONFIGURATION"), (124, "TIMEOUT"),
        (126, "PERMISSION"), (127, "NOT_FOUND"), (128, None), (137, "RESOURCE"), (143, None), (152, "RESOURCE"),
        (255, None), (-9, "RESOURCE"), (-15, None),
    ],
)  # fmt: skip
def test_of_exit_statuses(status, code):
    assert code_of_status(status) == code


def test_the_tables_name_only_codes_that_exist():
    assert {meaning.code for meaning in (*EXIT_STATUSES.values(), *SIGNALS.values())} <= set(CODES)
    assert all(hasattr(signal, name) for name in SIGNALS)


def test_signals_have_names():
    assert [signal_behind(status) for status in (137, -9, 128, 255, 1)] == [9, 9, None, None, None]
    assert (name_of_signal(9), name_of_signal(99)) == ("SIGKILL", "signal 99")


def test_a_program_that_complains_of_memory_is_believed():
    assert says_no_memory(["Traceback", "MemoryError"]) and says_no_memory(["terminate: std::bad_alloc"])
    assert not says_no_memory(["memory is fine"]) and not says_no_memory([])
