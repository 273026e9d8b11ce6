from __future__ import annotations

import json
import signal

import pytest

from orchestrator.core.outcome import KINDS, Failure, Outcome, failure_of
from orchestrator.errors import CODES


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        (Outcome("exited", 1, duration_seconds=3), "FAILED", "exit status 1 after 3.00s"),
        (Outcome("exited", 75), "TRANSIENT", "exit status 75 after 0.00s"),
        (Outcome("exited", 78), "CONFIGURATION", "exit status 78 after 0.00s"),
        (Outcome("exited", 69), "DEPENDENCY", "exit status 69 after 0.00s"),
        (Outcome("exited", 127), "NOT_FOUND", "exit status 127 (no such command) after 0.00s"),
        (Outcome("exited", 143), "FAILED", "exit status 143: ended by SIGTERM after 0.00s"),
        (Outcome("exited", 255), "FAILED", "exit status 255 after 0.00s"),
        (Outcome("signalled", signal=signal.SIGSEGV), "FAILED", "ended by SIGSEGV after 0.00s"),
        (Outcome("signalled", signal=99), "FAILED", "ended by signal 99 after 0.00s"),
        (Outcome("signalled", signal=signal.SIGXCPU), "RESOURCE", "used up its processor time (SIGXCPU) after 0.00s"),
        (Outcome("timed_out", duration_seconds=60), "TIMEOUT", "did not end by its deadline, after 1m 00s"),
        (Outcome("timed_out", insisted=True), "TIMEOUT", "did not end by its deadline, after 0.00s (had to be killed)"),
        (Outcome("hung"), "TIMEOUT", "stopped reporting progress, ended after 0.00s"),
        (Outcome("stopped"), "REJECTED", "stopped after 0.00s"),
        (Outcome("lost"), "INTERRUPTED", "its agent, host or power was lost after 0.00s"),
        (Outcome("never_started"), "INTERNAL", "could not be started"),
    ],
)
def test_the_code_and_the_sentence_for_each_end(outcome, code, message):
    found = failure_of(outcome.replace(log="3.log", tail=("last words",)))
    assert found == Failure(code, message, log="3.log", tail=("last words",))
    assert found.remedy == CODES[code].remedy and not outcome.succeeded


def test_killed_without_being_asked_is_most_likely_memory():
    found = failure_of(Outcome("signalled", signal=signal.SIGKILL))
    assert found.code == "RESOURCE" and "memory" in found.message


@pytest.mark.parametrize("end", [Outcome("signalled", signal=signal.SIGKILL), Outcome("exited", 137)])
def test_where_memory_is_counted_a_kill_is_told_from_a_lack_of_it(end):
    by_kernel, by_person = (failure_of(end.replace(out_of_memory=which)) for which in (True, False))
    assert by_kernel.code == "RESOURCE" and by_kernel.message.endswith("after 0.00s, for lack of memory")
    assert by_person.code == "FAILED" and "by a person" in by_person.message


def test_a_lack_of_memory_is_the_cause_of_what_has_no_other():
    broken = Failure("FAILED", "a worker has died")
    for end, code in (
        (Outcome("exited", 1), "RESOURCE"), (Outcome("exited", 75), "TRANSIENT"),
        (Outcome("signalled", signal=signal.SIGABRT), "RESOURCE"), (Outcome("exited", 1, failure=broken), "RESOURCE"),
    ):  # fmt: skip
        found = failure_of(end.replace(out_of_memory=True))
        assert found.code == code and ("memory had run out" in found.message) == (code == "RESOURCE")


def test_what_the_attempt_said_of_itself_comes_first_with_the_agents_evidence():
    said = Failure("NOT_FOUND", "no data", type="FileNotFoundError", tail=("its own",))
    assert failure_of(Outcome("exited", 75, failure=said, log="3.log")) == said.replace(log="3.log")
    assert failure_of(Outcome("exited", 75, failure=said, tail=("b",))).tail == ("b",)


def test_success_is_an_exit_with_0_and_nothing_to_complain_of():
    assert Outcome("exited", 0).succeeded
    assert not Outcome("exited", 0, failure=Failure("FAILED", "no result")).succeeded
    assert not Outcome("exited").succeeded and not Outcome("stopped", 0).succeeded


@pytest.mark.parametrize("kind", KINDS)
def test_an_outcome_comes_back_from_json(kind):
    outcome = Outcome(
        kind,
        1,
        9,
        Failure("FAILED", "no", tail=("a",)),
        {"n": [1]},
        2.5,
        10.0,
        12.5,
        True,
        ("rsync",),
        "3.log",
        ("b", "c"),
        True,
    )
    assert Outcome.from_dict(json.loads(json.dumps(outcome.as_dict()))) == outcome
    assert Outcome.from_dict({"kind": kind}) == Outcome(kind)


@pytest.mark.parametrize("data", [{"kind": "evaporated"}, {}])
def test_an_end_that_does_not_exist_is_refused(data):
    with pytest.raises(ValueError, match="no such outcome"):
        Outcome.from_dict(data)
