"""Phase -2: ways to ourselves that work, that do not, and that lead elsewhere."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import ConfigurationFault
from phases import m02_services as phase

ROOT = Path(__file__).resolve().parents[2]


def test_it_tells_the_ways_to_ourselves(make, fits):
    context = make(-2)
    found = fits(phase.services(context))["figures"]
    assert found["services_configured"] == 0
    assert found["peer_is_known"] is True
    for way in ("tcp", "unix"):
        assert 0 < found[f"{way}_trip_median_ms"] <= found[f"{way}_trip_p95_ms"]
    assert (context.told[-1]["done"], context.told[-1]["total"]) == (4, 4)


def test_a_machine_without_loopback_is_refused(make):
    code = f"from orchestrator import Context; from phases import m02_services; m02_services.services(Context(project={str(make(-2).project)!r}))"
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    if "unshare" in done.stderr:
        pytest.skip(f"no network namespaces here: {done.stderr.strip()}")
    assert done.returncode == 1
    assert "ConfigurationFault: 127.0.0.1 does not lead back to this machine" in done.stderr
    assert "ip link set lo up" in done.stderr


def test_unix_sockets_that_are_forbidden_are_refused(make, monkeypatch):
    right = socket.socket

    def refuse(family=-1, *more, **named):
        if family == socket.AF_UNIX:
            raise PermissionError(1, "Operation not permitted")
        return right(family, *more, **named)

    monkeypatch.setattr(phase.socket, "socket", refuse)
    with pytest.raises(ConfigurationFault, match=r"Unix sockets cannot be used \(Operation not permitted\)"):
        phase.over_unix_socket()


def test_an_answer_that_does_not_come_is_refused(monkeypatch):
    monkeypatch.setattr(phase, "round_trip", lambda calling: calling.recv(100))  # asks nothing, and waits
    monkeypatch.setattr(phase, "PATIENCE", 0.1)
    with pytest.raises(ConfigurationFault, match=r"127\.0\.0\.1 does not lead back to this machine \(timed out\)"):
        phase.over_loopback()


def test_a_peer_who_is_somebody_else_is_refused(monkeypatch):
    monkeypatch.setattr(phase.os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigurationFault, match="agents could not tell who calls them"):
        phase.knows_peer()


def test_a_localhost_that_is_not_known_or_elsewhere_is_told(monkeypatch):
    def unknown(*words, **named):
        raise socket.gaierror(-2, "Name or service not known")

    quick = {"tcp_trip_p95_ms": 1.0, "unix_trip_p95_ms": 1.0, "proxies_that_catch_loopback": []}
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (warning,) = phase.warnings({**quick, **phase.name_of_localhost()})
    assert "localhost is not known" in warning
    assert list(phase.warnings({**quick, "localhost": ["127.0.0.1", "::1"]})) == []
    (warning,) = phase.warnings({**quick, "localhost": ["127.0.0.1", "10.1.2.3"]})
    assert "localhost leads to 10.1.2.3" in warning
    (warning,) = phase.warnings({**quick, "localhost": ["::1"], "tcp_trip_p95_ms": 80.0})
    assert "(tcp) take up to 80 ms" in warning


@pytest.mark.parametrize(
    ("environ", "named", "caught"),
    [
        ({}, [], []),
        ({"http_proxy": ""}, [], []),
        ({"http_proxy": "http://p:1"}, ["http_proxy"], ["http_proxy"]),
        ({"HTTPS_PROXY": "http://p:1", "all_proxy": "x"}, ["https_proxy", "all_proxy"], ["https_proxy", "all_proxy"]),
        ({"http_proxy": "http://p:1", "no_proxy": "example.org"}, ["http_proxy"], ["http_proxy"]),
        ({"http_proxy": "http://p:1", "no_proxy": "example.org, localhost"}, ["http_proxy"], []),
        ({"http_proxy": "http://p:1", "NO_PROXY": "*"}, ["http_proxy"], []),
    ],
)
def test_proxies_that_would_catch_calls_to_ourselves(environ, named, caught):
    assert phase.proxies(environ) == {"proxies": named, "proxies_that_catch_loopback": caught}
    told = list(
        phase.warnings(
            {"localhost": ["::1"], "tcp_trip_p95_ms": 1.0, "unix_trip_p95_ms": 1.0, **phase.proxies(environ)}
        )
    )
    assert [text.split()[0] for text in told] == caught
