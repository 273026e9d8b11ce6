"""Which items stand when a phase fans out again: by value, in whatever place; and what is never taken as good."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core import actions as act
from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.cachekey import NO_FILES, Difference, Material
from orchestrator.core.carrying import carried
from orchestrator.core.events import Scope
from orchestrator.core.item import item
from orchestrator.core.phase import PhaseState, phase_document
from orchestrator.core.plan import Plan
from orchestrator.core.preview import preview
from orchestrator.core.spec import Foreach, Spec
from orchestrator.core.state import State, from_document, run_document
from tests.core.given import FINE, Case, an, asked, failing, run_asked
from tests.core.test_fanout import begun, kinds

OF_PARAM = Foreach(param="names")


class Fan:
    """Phase 1 fans out, phase 2 takes what comes of it; who is called upper returns itself so."""

    def __init__(self, *names: str, foreach: Foreach = OF_PARAM, **keys: Any) -> None:
        keys = {"cache": True, "retries": 0, "params": {"names": list(names)}, "foreach": foreach, **keys}
        self.case = Case({1: (), 2: (1,)}, jobs=99, keys={1: keys, 2: {"cache": True}})

    def having(self, *names: str, **keys: Any) -> Fan:
        """The author writes another list."""
        old = self.case.plan
        specs = [spec.replace(**keys) if spec.number == 1 else spec for spec in old.specs.values()]
        specs = [s.replace(params={"names": list(names)}) if s.number == 1 and names else s for s in specs]
        self.case.plan = type(old)(specs, old.rules, old.digest).spread(self.case.state)
        return self.given()

    def given(self) -> Fan:
        self.case.given()
        return self

    def run(self, *news: obs.Observation, fails: str = "", most: int = 99) -> list[str]:
        """Until nothing happens; returns the items that were run, by what they are for."""
        ran, batch = [], list(news)
        for _ in range(most):
            decision = self.case.step(*batch)
            batch = []
            for action in decision.actions:
                if isinstance(action, act.StartAttempt):
                    order = action.order
                    name = order.item[0] if order.item else str(order.attempt.phase)
                    ran += [name] if order.item else []
                    how = failing("FAILED") if name in fails.split() else FINE.replace(result=name.upper())
                    batch.append(obs.Ended(order.attempt, how))
            if not decision.events and not batch:
                return ran
        return ran

    def new_run(self, *names: str, **how: Any) -> list[str]:
        if names:
            self.having(*names)
        return self.run(run_asked(new=True, run=f"r{self.case.tick + 2:g}"), **how)

    @property
    def result(self) -> Any:
        return (self.case.state.phase(1).outputs or {}).get("result")


def test_a_second_run_runs_nothing_and_what_needs_it_is_kept_too():
    fan = Fan("a", "b")
    assert fan.run() == ["a", "b"]
    assert fan.new_run() == [] and fan.result == ["A", "B"]
    assert [fan.case.state.phase(number).why for number in (1, 2)] == ["unchanged since run r1"] * 2


def test_only_what_is_new_is_run_wherever_it_stands():
    fan = Fan("a", "b", "c")
    fan.run()
    assert fan.new_run("new", "c", "a", "b") == ["new"]
    assert fan.result == ["NEW", "C", "A", "B"]
    assert fan.case.state.phase(1).why == "1 of 4 items runs, the others are unchanged since run r1"
    assert fan.case.state.phase(item(1, 2)).log == "its.log", "of where it stood when it was run"
    assert fan.new_run("b", "gone") == ["gone"] and fan.result == ["B", "GONE"]
    assert fan.new_run() == []


def test_it_is_known_beforehand():
    fan = Fan("a", "b")
    fan.run()
    fan.having("c", "a", "b")
    plan = Plan(fan.case.plan.specs.values(), fan.case.plan.rules, "digest")
    for new, since in ((False, ""), (True, " since run r1")):
        step = preview(plan, fan.case.state, fan.case.agenda.scope, new=new)[0]
        assert step.why.startswith("params: names changed"), step
        assert step.why.endswith(f"; 1 of 3 items runs (the first is 1[0]: 'c'), the others are unchanged{since}")


def test_equal_values_stand_each_for_itself():
    fan = Fan("a", "a")
    assert fan.run() == ["a", "a"]
    assert fan.new_run("b", "a", "a") == ["b"]
    assert fan.new_run("a", "a", "a") == ["a"], "of three two were done"


def test_what_failed_is_run_again_and_the_rest_is_kept():
    fan = Fan("a", "b", "c")
    fan.run(fails="b")
    assert fan.case.status(1) == "failed"
    assert fan.run(run_asked()) == ["b"], "another call"
    assert fan.result == ["A", "B", "C"] and fan.new_run() == []


def test_what_failed_in_one_run_is_run_by_the_next():
    fan = Fan("a", "b", "c")
    fan.run(fails="b")
    assert fan.new_run(fails="b") == ["b"]
    assert fan.new_run("b", "c", "d") == ["b", "d"]


def test_what_was_mended_between_two_calls_is_seen():
    fan = Fan("a", "bad", "c")
    fan.run(fails="bad")
    assert fan.having("a", "better", "c").run(run_asked()) == ["better"]
    assert fan.result == ["A", "BETTER", "C"]


def test_what_was_borne_is_tried_again_by_a_new_run_and_not_by_this_one():
    fan = Fan("a", "b", "c", fail_after=1.0)
    fan.run(fails="b")
    assert fan.result == ["A", None, "C"] and fan.run(run_asked()) == []
    assert fan.new_run() == ["b"] and fan.result == ["A", "B", "C"]


def test_other_code_or_another_parameter_runs_all():
    fan = Fan("a", "b")
    fan.run()
    fan.having(run="another")
    assert fan.new_run() == ["a", "b"]
    fan.having(params={"names": ["a", "b"], "year": 2026})
    assert fan.new_run() == ["a", "b"]


@pytest.mark.parametrize("how", [{"force": True}, {"new": True, "force": True, "run": "r2"}])
def test_force_runs_all(how):
    fan = Fan("a", "b")
    fan.run()
    assert fan.run(run_asked(**how)) == ["a", "b"]


def test_reset_forgets_all_and_one():
    fan = Fan("a", "a", "b")
    fan.run()
    assert fan.run(asked("reset", item(1, 1)), run_asked()) == ["a"], "its twin does not stand for it"
    assert fan.new_run() == []
    assert fan.run(asked("reset", 1, ask="k2"), run_asked()) == ["a", "a", "b"]


def test_without_cache_nothing_is_kept():
    fan = Fan("a", "b", cache=None)
    fan.run()
    assert fan.new_run() == ["a", "b"]


def test_within_a_run_it_is_run_again_when_what_it_needs_comes_out_otherwise():
    keys = {1: {"cache": True}, 2: {"foreach": Foreach(("a",))}}
    case = Case({1: (), 2: (1,)}, jobs=9, keys=keys).live(1)
    case.step(obs.Ended(an(1), FINE))
    for _ in range(2):
        case.step()
    case.step(obs.Ended(an(item(2, 0)), FINE))
    case.step()
    for result, why in (("as before", ""), ("other", "needs: what came out of phase 1 changed")):
        case.step(run_asked(force=True, scope=Scope(only=(1,))))
        case.step()
        case.step(obs.Ended(case.state.attempt_id(1), FINE.replace(result=result if why else {"n": 1})))
        case.step(run_asked())
        events = case.step(obs.Measured(2, NO_FILES)).events
        assert [event.why.split(" (")[0] for event in events if isinstance(event, ev.PhaseReset)] == [why] * bool(why)


# ---- the list that a phase returns


def listing(result: Any, foreach: Foreach) -> Case:
    keys = {1: {"cache": False}, 2: {"cache": True, "foreach": foreach}}
    case = Case({1: (), 2: (1,)}, jobs=9, keys=keys).live(1)
    return finish(case, result)


def finish(case: Case, result: Any, attempt: int = 1) -> Case:
    """Phase 1 returns this; what is then to be done is done."""
    batch = [obs.Ended(an(1, attempt, case.state.run.id), FINE.replace(result=result))]
    while (decision := case.step(*batch)).events or batch:
        starts = [action.order.attempt for action in decision.actions if isinstance(action, act.StartAttempt)]
        batch = [obs.Ended(attempt, FINE) for attempt in starts]
        case.ran = [*getattr(case, "ran", []), *map(str, (one.phase for one in starts))]  # type: ignore[attr-defined]
    return case


@pytest.mark.parametrize(
    ("before", "after", "ran"),
    [
        ({"files": ["a", "b"], "n": 1}, {"files": ["x", "a", "b"], "n": 1}, ["2[0]"]),
        ({"files": ["a", "b"], "n": 1}, {"files": ["a", "b"], "n": 2}, ["2[0]", "2[1]"]),
        ({"files": ["a"], "n": 1}, {"files": [], "n": 1}, []),
    ],
)
def test_of_a_result_the_list_itself_does_not_count_and_the_rest_does(before, after, ran):
    case = listing(before, Foreach(result=1, keys=("files",)))
    case.ran = []  # type: ignore[attr-defined]
    case.step(run_asked(new=True, run="r2"))
    assert begun(case.step()) == ["1"]
    finish(case, after, 2)
    assert case.ran == ran  # type: ignore[attr-defined]
    assert case.status(2) == "completed"


# ---- files


def material(files: dict[str, str], outputs: str = "", common: str = "") -> Material:
    return Material(
        inputs=repr(files) + common, outputs=outputs, over=repr(files), each=files, common=common or "common"
    )


class OfFiles(Fan):
    """What the disk says is said by the test."""

    def __init__(self, files: dict[str, str], **keys: Any) -> None:
        super().__init__(foreach=Foreach(files="data/*"), params={}, **keys)
        self.material, self.questions = material(files), 0

    def run(self, *news: obs.Observation, fails: str = "", most: int = 99) -> list[str]:
        ran, batch = [], list(news)
        for _ in range(most):
            questions = self.case.agenda.looking
            batch += [obs.Measured(number, self.material) for number in questions]
            self.questions += len(questions)
            ran += super().run(*batch, fails=fails, most=1)
            batch = [
                obs.Ended(self.case.state.attempt_id(number), self._how(number, fails))
                for number in self.case.state.live
            ]
            if not batch and not self.case.agenda.looking and self.case.wake() > 0:
                return ran
        raise AssertionError("it does not come to an end")

    def _how(self, number: int, fails: str) -> Any:
        value = (self.case.plan.items[number].item or ("",))[0] if number > 2 else str(number)  # type: ignore[index]
        return failing("FAILED") if value in fails.split() else FINE.replace(result=value.upper())


def test_of_files_the_content_of_that_very_file_counts():
    fan = OfFiles({"data/a": "1", "data/b": "1"}, inputs=("data/*", "common"))
    assert fan.run() == ["data/a", "data/b"]
    assert fan.new_run() == []
    fan.material = material({"data/0": "1", "data/a": "1", "data/b": "2"})
    assert fan.new_run() == ["data/0", "data/b"]
    fan.material = material({"data/a": "1"}, common="others")
    assert fan.new_run() == ["data/a"], "an input that all have in common"


def test_outputs_are_of_the_whole():
    fan = OfFiles({"data/a": "1", "data/b": "1"}, outputs=("out",))
    fan.material = fan.material.replace(outputs="made")
    fan.run()
    assert fan.case.state.phase(1).made.files == "made"
    fan.material = material({"data/a": "1", "data/b": "2"}, outputs="made")
    assert fan.new_run() == ["data/b"]
    fan.material = fan.material.replace(outputs="by hand")
    assert fan.new_run() == ["data/a", "data/b"]


def test_outputs_that_were_never_measured_keep_nothing_for_the_next_run():
    fan = OfFiles({"data/a": "1", "data/b": "1"}, outputs=("out",))
    fan.material = fan.material.replace(outputs="made")
    fan.run(fails="data/b")
    assert fan.run(run_asked(), fails="data/b") == ["data/b"], "within the run the others are kept"
    assert fan.new_run() == ["data/a", "data/b"]


def test_an_output_that_is_not_there_makes_it_fail_and_all_is_made_again():
    fan = OfFiles({"data/a": "1"}, outputs=("out",))
    fan.material = fan.material.replace(missing=("out",))
    fan.run()
    assert fan.case.state.phase(1).errors[-1]["message"] == "its items succeeded, but its output out is not there"
    fan.material = fan.material.replace(missing=(), outputs="made")
    assert fan.run(run_asked()) == ["data/a"] and fan.case.status(1) == "completed"


def test_files_that_cannot_be_read_are_named():
    fan = OfFiles({})
    fan.material = Material(of_over=Difference("foreach: data/a", "cannot be read: no"))
    fan.run()
    message = fan.case.state.phase(1).errors[-1]["message"]
    assert message == "it cannot fan out: the files data/* cannot be looked at: foreach: data/a cannot be read: no"


# ---- what is written down


def test_a_retry_that_is_asked_for_when_all_have_ended_is_waited_for():
    fan = Fan("a", "b", fail_after=1.0)
    fan.run(fails="b", most=2)
    ended = [obs.Ended(an(item(1, 0)), FINE), obs.Ended(an(item(1, 1)), failing("FAILED"))]
    fan.case.step(*ended)
    assert "Gathered" not in kinds(fan.case.step(asked("retry", item(1, 1))))
    fan.case.step(obs.Ended(an(item(1, 1), 2), FINE))
    assert fan.case.step().events[0].failed == ()


def test_the_fold_counts_as_the_decision_did_and_state_comes_back():
    fan = Fan("a", "b")
    fan.run()
    fan.new_run("c", "b")
    state = fan.case.state
    document = {**run_document(state), "phases": {}, "items": {}}
    document["phases"] = {str(number): phase_document(phase) for number, phase in state.phases.items()}
    document["items"] = {str(number): phase.as_dict() for number, phase in state.items.items()}
    again = from_document(document)
    assert again.phases == state.phases and again.items == state.items and again.fans == state.fans


def test_what_an_older_orch_has_fanned_out_stays_done_in_its_run():
    case = Case({1: (), 2: (1,)}, jobs=9, keys={1: {"foreach": Foreach(("a",)), "cache": True}})
    case.given(ev.FannedOut(1, ("a",)), ev.AttemptIntended(item(1, 0), 1, "a1", "2:" + "0" * 32))
    case.given(ev.PhaseCompleted(item(1, 0), 1, 1.0, "A", yields="y"), ev.Gathered(1, ["A"]))
    assert not case.plan.is_judged(1, case.state.phase(1))
    case.step(run_asked())
    assert case.status(1) == "completed" and case.state.phase(1).outputs == {"result": ["A"]}


def test_ten_thousand_items_are_carried_in_proportion():
    """Counted: no state of an item is looked at more often because there are more of them; a key is sixteen bytes."""
    events = []
    for many in (100, 10_000):
        fan = Fan(*map(str, range(many)))
        plan = fan.case.plan
        items, keys = plan.fan(1, {}, NO_FILES, State().phase)
        assert len({*keys}) == many and {len(key) for key in keys} == {16}
        fan.case.state.apply(ev.FannedOut(1, items, "2:k", {}, keys), 0.0)
        for place in range(many):
            number = item(1, place)
            fan.case.state.apply(ev.AttemptIntended(number, 1, "a1", keys[place]), 0.0)
            fan.case.state.apply(ev.PhaseCompleted(number, 1, 1.0, None, yields="y"), 0.0)
        looked = Counting(fan.case.state.items_of(1))
        found = carried(looked, keys, ("new" * 4, *keys))
        assert (found.kept, found.first) == (many, 0)
        events.append(looked.looks / many)
    assert events[1] <= 1.1 * events[0] < 10, events


class Counting(dict[int, PhaseState]):
    looks = 0

    def get(self, key: int, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)

    def __getitem__(self, key: int) -> PhaseState:
        self.looks += 1
        return super().__getitem__(key)


def test_specs_of_older_definitions_have_no_parameter_to_fan_out_over():
    assert Spec.from_dict(
        {"number": 1, "name": "p", "file": "f", "line": 1, "foreach": {"files": "a*"}}
    ).foreach == Foreach(files="a*")


@pytest.mark.parametrize(("names", "why"), [("eu", "it is 'eu'"), (None, "it is None"), (3, "it is 3")])
def test_a_parameter_that_is_no_list_fails_it_and_says_what_it_is(names, why):
    fan = Fan(params={"names": names} if names is not None else {"other": 1})
    fan.run()
    assert fan.case.state.phase(1).errors[-1]["message"] == f"it cannot fan out: params['names'] is no list: {why}"


def test_a_success_stands_for_one_item_only():
    fan = Fan("x", "y", "a")
    fan.run()
    assert fan.new_run("a", "a") == ["a"] and fan.result == ["A", "A"]


def test_an_item_that_a_person_has_skipped_stays_so():
    fan = Fan("a", "b", "c", fail_fast=True, max_parallel=1)
    fan.run(fails="b")
    assert fan.run(asked("skip", item(1, 2)).replace(why="not today"), run_asked()) == ["b"]
    assert fan.result == ["A", "B", None]


def test_outputs_that_were_changed_within_the_run_keep_nothing():
    fan = OfFiles({"data/a": "1", "data/b": "1"}, outputs=("out",))
    fan.material = fan.material.replace(outputs="made")
    fan.run()
    fan.material = fan.material.replace(outputs="by hand")
    fan.case.step(run_asked())
    assert fan.run(obs.Measured(1, fan.material)) == ["data/a", "data/b"]


def test_while_files_are_looked_at_the_loop_sleeps():
    fan = OfFiles({"data/a": "1"}, outputs=("out",))
    fan.case.step()
    assert fan.case.agenda.looking == {1} and fan.case.wake() > 0
    fan.case.step(obs.Measured(1, fan.material))
    fan.case.step()
    fan.case.step(obs.Ended(an(item(1, 0)), FINE))
    assert fan.case.wake() == 0
    assert fan.case.step().actions == (act.Measure(1, (), ("out",), ended=True),)
    assert fan.case.agenda.to_gather == {1} and fan.case.wake() > 0


def test_another_value_in_the_place_of_one_that_was_skipped_is_run():
    fan = Fan("a", "b", "c", fail_fast=True, max_parallel=1)
    fan.run(fails="b")
    fan.having("a", "b", "d")
    assert fan.run(asked("skip", item(1, 2)).replace(why="not today"), run_asked()) == ["b", "d"]


def test_what_an_older_orch_has_begun_goes_on_with_what_is_left():
    case = Case({1: ()}, jobs=9, keys={1: {"foreach": Foreach(("a", "b")), "cache": True, "retries": 0}})
    case.given(ev.FannedOut(1, ("a", "b")))
    for place in range(2):
        case.given(ev.AttemptIntended(item(1, place), 1, "a1", "2:" + "0" * 32))
    case.step(obs.Ended(an(item(1, 0)), FINE), obs.Ended(an(item(1, 1)), failing("FAILED")))
    case.step()
    case.step(run_asked())
    assert begun(case.step()) == ["1[1]"]
    case.step(obs.Ended(an(item(1, 1), 2), FINE))
    assert case.step().events[0].result == [{"n": 1}] * 2 and not case.plan.is_judged(1, case.state.phase(1))
