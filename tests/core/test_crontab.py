from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.crontab import (
    Unbalanced,
    block_of,
    blocks,
    command,
    fault,
    with_block,
    without_block,
    zone_for_all,
)

ROOT, SCRIPT = "/srv/night ly", "/srv/night ly/system/schedules/a.sh"
LINES = [f"0 3 * * * {command(SCRIPT)}", f"@reboot {command(SCRIPT)}"]
OTHERS = "MAILTO=me\n# nightly\n5 4 * * * true\n"

line = st.text(st.characters(blacklist_characters="\n", blacklist_categories=("Cs",)), max_size=30)
crontabs = (
    st.none()
    | st.text(max_size=0)
    | st.lists(line, min_size=1, max_size=6).map("\n".join)
    | st.lists(line, max_size=6).map(lambda lines: "".join(f"{one}\n" for one in lines))
)


def added(text: str | None, name: str = "a") -> str:
    return with_block(text, name, ROOT, LINES)


def removed(text: str | None, name: str = "a") -> str | None:
    assert text is not None
    return without_block(text, name, ROOT, [SCRIPT])


def test_a_block_stands_between_two_comments_at_the_end() -> None:
    assert added(OTHERS) == OTHERS + (
        "# orch: begin schedule a of project /srv/night ly\n"
        "0 3 * * * /bin/sh '/srv/night ly/system/schedules/a.sh'\n"
        "@reboot /bin/sh '/srv/night ly/system/schedules/a.sh'\n"
        "# orch: end schedule a of project /srv/night ly\n"
    )
    found = block_of(added(OTHERS), "a", ROOT)
    assert found is not None and list(found.lines) == LINES
    assert block_of(added(OTHERS), "b", ROOT) is None and block_of(added(OTHERS), "a", "/srv") is None


@settings(max_examples=60)
@given(crontabs)
def test_taken_out_the_crontab_is_as_it_was_byte_for_byte(text: str | None) -> None:
    assert removed(added(text)) == text


@settings(max_examples=40)
@given(crontabs, st.permutations("abc"))
def test_several_come_and_go_in_any_order(text: str | None, order: list[str]) -> None:
    now = text
    for name in "abc":
        now = added(now, name)
    for name in order:
        now = removed(now, name)
    assert now == text


@settings(max_examples=40)
@given(crontabs, st.lists(line, min_size=1, max_size=3))
def test_what_others_have_done_meanwhile_stays(text: str | None, more: list[str]) -> None:
    theirs = "".join(f"{one}\n" for one in more)
    before = text if text is None or not text or text.endswith("\n") else text + "\n"  # then that line has an end
    assert removed(added(text) + theirs) == (before or "") + theirs


def test_lines_that_others_put_between_ours_stay() -> None:
    mixed = added(OTHERS).replace("@reboot", "7 7 * * * mine\n#@reboot")
    assert removed(mixed) == OTHERS + "7 7 * * * mine\n"


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda text: text.replace("# orch: end schedule a of project /srv/night ly\n", ""), "line 4"),
        (lambda text: text.replace("# orch: begin schedule a of project /srv/night ly\n", ""), "line 6"),
        (lambda text: text + text, None),
        (lambda text: text.replace("end schedule a", "end schedule b"), "line 4"),
        (lambda text: text + "# orch: begin schedule b of project /x\n", "line 8"),
        (lambda text: text.replace("@reboot", "# orch: begin schedule b of project /x\n@reboot"), "line 4"),
    ],
)
def test_a_marker_without_its_other_half_is_named(broken, told: str | None) -> None:
    text = broken(added(OTHERS))
    if told is None:  # twice the same is strange, but clear
        assert len(blocks(text)) == 2
        return
    with pytest.raises(Unbalanced, match=told):
        removed(text)


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("/a/b.sh", "/bin/sh '/a/b.sh'"),
        ("/a b/100%/c.sh", r"/bin/sh '/a b/100\%/c.sh'"),
        ("/it's/c.sh", "/bin/sh '/it'\"'\"'s/c.sh'"),
        ('/"ü"/$HOME/`x`.sh', "/bin/sh '/\"ü\"/$HOME/`x`.sh'"),
    ],
)
def test_a_path_is_quoted_for_cron_and_for_the_shell(script: str, line: str) -> None:
    assert command(script) == line


@pytest.mark.parametrize("path", ["/a\nb", "/a\\b", "/a\rb", "/a\x07", "/" + "x" * 900, "/" + "%" * 500])
def test_a_path_that_no_line_can_hold_is_refused(path: str) -> None:
    assert fault(path)


@pytest.mark.parametrize("path", ["/srv", "/a b/'c'/\"d\"/100%/ü/$x", "/" + "x" * 700])
def test_any_other_path_is_taken(path: str) -> None:
    assert fault(path) == ""


def test_a_zone_that_the_crontab_sets_is_seen() -> None:
    assert zone_for_all("A=1\n CRON_TZ = 'Asia/Tokyo'\n* * * * * x\n") == "Asia/Tokyo"
    assert zone_for_all("# CRON_TZ=Asia/Tokyo\n") == ""
