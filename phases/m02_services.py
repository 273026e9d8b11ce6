"""Phase -2: what orch needs of the network, which is the machine's own loopback and nothing else. Nothing leaves it."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator import ConfigurationFault, Context, phase
from phases._ground import Say, child, sampled, spread

ROUND_TRIPS = 50
PATIENCE = 5.0
SLOW_TRIP_MS = 50.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
OURSELVES = ("localhost", "127.0.0.1")


@phase(-2, needs=[-8], timeout="30s", retries=0)
def services(ctx: Context) -> dict[str, Any]:
    """Try loopback, Unix sockets and the name of localhost."""
    figures: dict[str, Any] = {"services_configured": 0}
    for look in ctx.track((over_loopback, over_unix_socket, name_of_localhost, loopback_6), text="ways to ourselves"):
        figures |= look()
    figures |= proxies(os.environ)
    return {"verdict": verdict(figures), "figures": figures, "warnings": list(warnings(figures))}


def verdict(figures: dict[str, Any]) -> str:
    return (
        "no services are configured (this version has none to configure); "
        f"a message and its answer take {figures['unix_trip_median_ms']:.2f} ms by Unix socket, "
        f"{figures['tcp_trip_median_ms']:.2f} ms by loopback"
    )


def warnings(figures: dict[str, Any]) -> Iterator[str]:
    if not figures["localhost"]:
        yield "the name localhost is not known: add `127.0.0.1 localhost` to /etc/hosts"
    for address in figures["localhost"]:
        if not ipaddress.ip_address(address).is_loopback:
            yield f"localhost leads to {address}, which is not this machine: correct /etc/hosts"
    for name in figures["proxies_that_catch_loopback"]:
        yield f"{name} would send calls to this machine to a proxy: set no_proxy={','.join(OURSELVES)}"
    for way in ("unix", "tcp"):
        if figures[f"{way}_trip_p95_ms"] > SLOW_TRIP_MS:
            yield f"a message and its answer ({way}) take up to {figures[f'{way}_trip_p95_ms']:.0f} ms: too much load"


# Both kinds of socket, with another process at the other end


def over_loopback() -> dict[str, Any]:
    try:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            return spread("tcp_trip", trips(listening, socket.AF_INET))
    except OSError as error:
        raise ConfigurationFault(
            f"127.0.0.1 does not lead back to this machine ({error.strerror or error}): bring it up (ip link set lo up)"
        ) from error


def over_unix_socket() -> dict[str, Any]:
    """Under an abstract name; phase -6 tries it in the project's own folder."""
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(b"\0" + f"orch-ground-{os.getpid()}".encode())
            listening.listen()
            return {**spread("unix_trip", trips(listening, socket.AF_UNIX)), "peer_is_known": knows_peer()}
    except OSError as error:
        raise ConfigurationFault(
            f"Unix sockets cannot be used ({error.strerror or error}): orch reaches its agents by them; "
            "run it outside of whatever forbids them"
        ) from error


def trips(listening: socket.socket, family: int) -> list[float]:
    """How long a small message takes to another process and back."""

    def echo(say: Say) -> None:
        talk, _ = listening.accept()
        while data := talk.recv(100):
            talk.sendall(data)

    with child(echo), socket.socket(family) as calling:
        calling.settimeout(PATIENCE)
        calling.connect(listening.getsockname())
        return sampled(lambda: round_trip(calling), ROUND_TRIPS)


def round_trip(talk: socket.socket) -> None:
    talk.sendall(b"is anybody there?")
    if not talk.recv(100):
        raise ConnectionError("the other end has closed the connection")


def knows_peer() -> bool:
    """Whether the kernel says who is at the other end: by that an agent refuses other users."""
    one, two = socket.socketpair()
    with one, two:
        pid, uid, _ = struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if (pid, uid) != (os.getpid(), os.geteuid()):
        raise ConfigurationFault(
            f"the kernel says that process {pid} of user {uid} is at the other end of our own socket: "
            "agents could not tell who calls them; run orch outside of this sandbox"
        )
    return True


# Names and detours


def name_of_localhost() -> dict[str, Any]:
    try:
        found = socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    except OSError:
        return {"localhost": []}
    return {"localhost": sorted({str(entry[4][0]) for entry in found})}


def loopback_6() -> dict[str, Any]:
    """Nice to have: nothing of orch needs it."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return {"loopback_6": True}
    except OSError:
        return {"loopback_6": False}


def proxies(environ: Mapping[str, str]) -> dict[str, Any]:
    lower = {name.lower(): value for name, value in environ.items() if value}
    named = [name for name in PROXIES if name in lower]
    spared = {word.strip() for word in lower.get("no_proxy", "").split(",")}
    caught = not spared & {*OURSELVES, "*"}
    return {"proxies": named, "proxies_that_catch_loopback": named if caught else []}
