"""causes: which of the 13 codes an exit status, a signal or an exception stands for; one table, read by all who judge.

Exceptions of libraries are known by the names of their package and class, so that none has to be imported here.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from orchestrator.errors import CODES, PhaseError

UNKNOWN = "FAILED"
_MOST = 100  # exceptions that are asked: causes of causes, members of groups


class Meaning(NamedTuple):
    code: str
    words: str = ""  # what is said beside the number, where that alone says nothing


# ---- exit statuses: of sysexits.h those that are clear, timeout(1), the shell

EXIT_STATUSES: dict[int, Meaning] = {
    64: Meaning("CONFIGURATION"),  # EX_USAGE
    65: Meaning("VALIDATION"),  # EX_DATAERR
    66: Meaning("NOT_FOUND"),  # EX_NOINPUT
    69: Meaning("DEPENDENCY"),  # EX_UNAVAILABLE
    71: Meaning("RESOURCE"),  # EX_OSERR
    74: Meaning("RESOURCE"),  # EX_IOERR
    75: Meaning("TRANSIENT"),  # EX_TEMPFAIL
    77: Meaning("PERMISSION"),  # EX_NOPERM
    78: Meaning("CONFIGURATION"),  # EX_CONFIG
    124: Meaning("TIMEOUT", "as timeout(1) ends"),
    126: Meaning("PERMISSION", "a command that may not be executed"),
    127: Meaning("NOT_FOUND", "no such command"),
}
_FROM_A_SIGNAL = 128  # a shell adds the number of the signal that ended its command
_LAST_SIGNAL = 64

SIGNALS: dict[str, Meaning] = {
    "SIGKILL": Meaning("RESOURCE"),  # unless it is known that memory had not run out
    "SIGXCPU": Meaning("RESOURCE", "used up its processor time"),
    "SIGXFSZ": Meaning("RESOURCE", "wrote a larger file than it may"),
}


def signal_behind(status: int) -> int | None:
    """Which signal a status beyond 128 tells of; what subprocess calls -n is the same."""
    number = -status if status < 0 else status - _FROM_A_SIGNAL
    return number if 0 < number <= _LAST_SIGNAL else None


def name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def code_of_status(status: int) -> str | None:
    """None: it says that something failed, and no more."""
    if status in EXIT_STATUSES:
        return EXIT_STATUSES[status].code
    number = signal_behind(status)
    meaning = SIGNALS.get(name_of_signal(number)) if number is not None else None
    return meaning.code if meaning else None


_NO_MEMORY = ("memoryerror", "bad_alloc", "cannot allocate memory", "out of memory", "outofmemory")


def says_no_memory(tail: Iterable[str]) -> bool:
    """Whether the last words of a program complain of a lack of memory."""
    return any(word in line.lower() for line in tail for word in _NO_MEMORY)


# ---- what others answer: HTTP, SQL, error numbers of the system, of SQLite, of AWS

_HTTP = {
    401: "PERMISSION", 403: "PERMISSION", 404: "NOT_FOUND", 407: "PERMISSION", 408: "TRANSIENT", 409: "CONFLICT",
    410: "NOT_FOUND", 423: "CONFLICT", 425: "TRANSIENT", 429: "TRANSIENT",
}  # fmt: skip
_SQL = {  # by SQLSTATE, or how it begins
    "08": "TRANSIENT", "22": "VALIDATION", "23": "CONFLICT", "28": "PERMISSION",
    "3D": "NOT_FOUND", "40": "CONFLICT", "42501": "PERMISSION", "42P01": "NOT_FOUND", "53": "RESOURCE",
    "55": "CONFLICT", "57": "TRANSIENT", "57014": "TIMEOUT",
}  # fmt: skip
_SQLITE = {
    1: UNKNOWN, 3: "PERMISSION", 5: "CONFLICT", 6: "CONFLICT", 7: "RESOURCE", 8: "PERMISSION", 10: "RESOURCE",
    11: "VALIDATION", 13: "RESOURCE", 14: "NOT_FOUND", 19: "CONFLICT", 23: "PERMISSION", 26: "VALIDATION",
}  # fmt: skip
_AWS = {
    "TRANSIENT": "Throttling ThrottlingException ThrottledException RequestThrottled TooManyRequestsException SlowDown"
    " RequestLimitExceeded ProvisionedThroughputExceededException RequestTimeout",
    "PERMISSION": "AccessDenied ExpiredToken ExpiredTokenException InvalidClientTokenId UnrecognizedClientException",
    "CONFLICT": "ConditionalCheckFailedException",
    "NOT_FOUND": "NoSuchKey NoSuchBucket ResourceNotFoundException",
}
_ERRNO = {
    **dict.fromkeys(("ENOSPC", "EDQUOT", "ENOMEM", "EMFILE", "ENFILE", "EFBIG", "EIO", "ENOLCK"), "RESOURCE"),
    **dict.fromkeys(
        ("EAGAIN", "EHOSTUNREACH", "EHOSTDOWN", "ENETUNREACH", "ENETDOWN", "ENETRESET", "EBUSY", "ETXTBSY", "ESTALE"),
        "TRANSIENT",
    ),
    "EADDRINUSE": "CONFLICT", "EROFS": "PERMISSION", "ENOTDIR": "NOT_FOUND", "ENOEXEC": "CONFIGURATION",
}  # fmt: skip


def _of_http(status: int) -> str | None:
    if status >= 500:
        return "TRANSIENT"
    return _HTTP.get(status, "VALIDATION") if status >= 400 else None


# ---- exceptions, by code, then package

_CLASSES: dict[str, dict[str, str]] = {
    "TRANSIENT": {
        "builtins": "ConnectionError TimeoutError BlockingIOError",
        "aiohttp": "ClientConnectionError ClientPayloadError",
        "amqp": "RecoverableConnectionError",
        "anthropic": "APIConnectionError",
        "asyncio": "IncompleteReadError",
        "botocore": "HTTPClientError ConnectionError",
        "elastic_transport": "ConnectionError ConnectionTimeout",
        "ftplib": "error_temp",
        "http": "BadStatusLine IncompleteRead",
        "httpcore": "NetworkError ProtocolError TimeoutException",
        "httpx": "TransportError",
        "kafka": "KafkaConnectionError KafkaTimeoutError NoBrokersAvailable",
        "openai": "APIConnectionError",
        "paramiko": "SSHException",
        "pika": "AMQPConnectionError",
        "pymongo": "ConnectionFailure NetworkTimeout ServerSelectionTimeoutError",
        "redis": "ConnectionError TimeoutError ReadOnlyError",
        "requests": "ConnectionError Timeout ChunkedEncodingError RetryError",
        "smtplib": "SMTPServerDisconnected SMTPConnectError",
        "socket": "gaierror herror",
        "sqlalchemy": "DisconnectionError TimeoutError",
        "ssl": "SSLError",
        "urllib": "ContentTooShortError",
        "urllib3": "ProtocolError TimeoutError NewConnectionError ProxyError MaxRetryError SSLError",
        "websockets": "ConnectionClosed",
    },
    "CONFIGURATION": {
        "builtins": "ImportError",
        "aiohttp": "ClientConnectorCertificateError InvalidURL",
        "botocore": "NoCredentialsError PartialCredentialsError NoRegionError ProfileNotFound",
        "configparser": "Error",
        "http": "InvalidURL",
        "httpx": "InvalidURL UnsupportedProtocol",
        "paramiko": "BadHostKeyException",
        "pydantic_settings": "SettingsError",
        "requests": "InvalidURL MissingSchema InvalidSchema InvalidProxyURL",
        "ssl": "SSLCertVerificationError",
    },
    "VALIDATION": {
        "builtins": "UnicodeDecodeError",
        "_csv": "Error",
        "botocore": "ParamValidationError",
        "django": "ValidationError",
        "json": "JSONDecodeError",
        "jsonschema": "ValidationError",
        "lxml": "XMLSyntaxError",
        "marshmallow": "ValidationError",
        "msgspec": "ValidationError DecodeError",
        "pandas": "ParserError EmptyDataError",
        "pandera": "SchemaError SchemaErrors",
        "pydantic": "ValidationError",
        "pydantic_core": "ValidationError",
        "simplejson": "JSONDecodeError",
        "tomllib": "TOMLDecodeError",
        "voluptuous": "Invalid",
        "xml": "ParseError ExpatError",
        "yaml": "YAMLError",
    },
    "NOT_FOUND": {"builtins": "FileNotFoundError"},
    "PERMISSION": {
        "builtins": "PermissionError",
        "paramiko": "AuthenticationException",
        "redis": "AuthenticationError AuthorizationError NoPermissionError",
        "smtplib": "SMTPAuthenticationError",
    },
    "CONFLICT": {
        "builtins": "FileExistsError",
        "pymongo": "DuplicateKeyError",
        "redis": "LockError WatchError",
    },
    "RESOURCE": {
        "builtins": "MemoryError",
        "redis": "OutOfMemoryError",
        "tensorflow": "ResourceExhaustedError",
        "torch": "OutOfMemoryError",
    },
    "TIMEOUT": {"subprocess": "TimeoutExpired", "multiprocessing": "TimeoutError"},
}
_OF_DATABASES = {"OperationalError": "TRANSIENT", "InterfaceError": "TRANSIENT", "IntegrityError": "CONFLICT"}
_OF_DATABASES |= {"DataError": "VALIDATION"}  # the names of PEP 249
_DATABASES = "psycopg psycopg2 pymysql MySQLdb mysql mariadb pyodbc oracledb cx_Oracle sqlite3 sqlalchemy django"

_NAMED = {
    (package, name): code
    for code, packages in _CLASSES.items()
    for package, names in packages.items()
    for name in names.split()
} | {(package, name): code for package in _DATABASES.split() for name, code in _OF_DATABASES.items()}
_BY_ERRNO = {getattr(errno, name): code for name, code in _ERRNO.items()}
_BY_AWS = {name: code for code, names in _AWS.items() for name in names.split()}

# What is behind an attribute says more than the class: how that is read, and where it is.
_ASKED: dict[tuple[str, str], tuple[str, str]] = {
    ("subprocess", "CalledProcessError"): ("exit", "returncode"),
    ("aiohttp", "ClientResponseError"): ("http", "status"),
    ("anthropic", "APIStatusError"): ("http", "status_code"),
    ("azure", "HttpResponseError"): ("http", "status_code"),
    ("github", "GithubException"): ("http", "status"),
    ("google", "GoogleAPICallError"): ("http", "code"),
    ("httpx", "HTTPStatusError"): ("http", "response.status_code"),
    ("kubernetes", "ApiException"): ("http", "status"),
    ("openai", "APIStatusError"): ("http", "status_code"),
    ("requests", "HTTPError"): ("http", "response.status_code"),
    ("tornado", "HTTPClientError"): ("http", "code"),
    ("urllib", "HTTPError"): ("http", "code"),
    ("asyncpg", "PostgresError"): ("sql", "sqlstate"),
    ("psycopg", "Error"): ("sql", "sqlstate"),
    ("psycopg2", "Error"): ("sql", "pgcode"),
    ("sqlite3", "Error"): ("sqlite", "sqlite_errorcode"),
    ("botocore", "ClientError"): ("aws", "response"),
}
# What these wrap says more than they do.
_WRAPPERS = frozenset(
    {
        ("django", "DatabaseError"), ("httpcore", "NetworkError"), ("httpx", "TransportError"),
        ("requests", "SSLError"), ("sqlalchemy", "DBAPIError"), ("urllib", "URLError"), ("urllib3", "MaxRetryError"),
        ("urllib3", "SSLError"),
    }
)  # fmt: skip
_WITHIN = ("reason", "orig", "args", "__cause__", "__context__")


def code_of(error: BaseException) -> str:
    """The one code that an exception raised inside a phase stands for: the outermost that says something counts."""
    return _said(error, set()) or UNKNOWN


def _said(error: BaseException, seen: set[int]) -> str | None:
    if id(error) in seen or len(seen) >= _MOST:
        return None
    seen.add(id(error))
    if isinstance(error, PhaseError):
        return error.code
    names = [(str(cls.__module__).partition(".")[0], cls.__name__) for cls in type(error).__mro__]
    if found := _asked(error, names) or (_of_wrapped(error, seen) if _WRAPPERS.intersection(names) else None):
        return found
    if found := _named(error, names) or (_of_group(error, seen) if isinstance(error, BaseExceptionGroup) else None):
        return found
    return _said(error.__cause__, seen) if error.__cause__ is not None else None


def _asked(error: BaseException, names: list[tuple[str, str]]) -> str | None:
    for kind, path in (_ASKED[name] for name in names if name in _ASKED):
        if (value := _attribute(error, path)) is not None and (found := _READ[kind](value)):
            return found
    return None


def _attribute(error: object, path: str) -> Any:
    """Somebody else's object: to look at it may raise whatever it likes."""
    try:
        for name in path.split("."):
            error = getattr(error, name)
    except Exception:
        return None
    return error


def _of_wrapped(error: BaseException, seen: set[int]) -> str | None:
    for name in _WITHIN:
        value = _attribute(error, name)
        for inner in value if name == "args" else (value,):
            if isinstance(inner, BaseException) and (found := _said(inner, seen)):
                return found
    return None


def _named(error: BaseException, names: list[tuple[str, str]]) -> str | None:
    for name in names:
        if name[0] == "builtins" and isinstance(error, OSError) and error.errno in _BY_ERRNO:
            return _BY_ERRNO[error.errno]
        if name in _NAMED:
            return _NAMED[name]
    return None


def _of_group(error: BaseExceptionGroup[BaseException], seen: set[int]) -> str | None:
    """What can never be mended by trying again holds back the rest."""
    codes = [found for member in error.exceptions[:_MOST] if (found := _said(member, seen))]
    return min(codes, key=lambda code: (code == UNKNOWN, CODES[code].retry is not None), default=None)


def _whole(read: Callable[[int], str | None]) -> Callable[[Any], str | None]:
    """Some say a status as an enum, or as text."""

    def reader(value: Any) -> str | None:
        try:
            return read(int(value))
        except (TypeError, ValueError, OverflowError):
            return None

    return reader


def _of_sql(state: Any) -> str | None:
    return _SQL.get(str(state)) or _SQL.get(str(state)[:2])


def _of_aws(response: Any) -> str | None:
    """Its own word for it, else the status."""
    if not isinstance(response, dict):
        return None
    error, meta = (response.get(part) or {} for part in ("Error", "ResponseMetadata"))
    return _BY_AWS.get(str(error.get("Code"))) or _READ["http"](meta.get("HTTPStatusCode"))


_READ: dict[str, Callable[[Any], str | None]] = {
    "exit": _whole(code_of_status), "http": _whole(_of_http), "sqlite": _whole(lambda code: _SQLITE.get(code & 0xFF)),
    "sql": _of_sql, "aws": _of_aws,
}  # fmt: skip
