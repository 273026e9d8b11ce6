"""The report in a real browser: no sideways scroll at phone width and on a wide screen, by day and by night."""

from __future__ import annotations

import json
import shutil
import subprocess
from html import escape, unescape

import pytest

from phases import p15_report as phase
from phases._page import page
from tests.phases.reporting import check, results, told

BROWSER = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="there is no Chromium to open the report in: apt install chromium"
)
QUIETLY = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking"
    " --disable-component-update --disable-sync --disable-extensions --no-first-run --hide-scrollbars"
).split()
# A window cannot be as narrow as a phone; a frame can.
FRAMES = """<!DOCTYPE html><body><pre id="told">nothing yet</pre>{frames}<script>
addEventListener("load", () => {{
  const told = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, root = page.documentElement, box = (item) => item.getBoundingClientRect();
    const beside = [...page.querySelectorAll("body *")].filter((item) => box(item).right > root.clientWidth + 1);
    const style = frame.contentWindow.getComputedStyle(page.body);
    const label = box(page.querySelector(".row .label")), strip = box(page.querySelector(".row svg"));
    return {{
      width: root.clientWidth, scroll: root.scrollWidth, beside: beside.map((item) => item.outerHTML.slice(0, 80)),
      stacked: strip.top >= label.bottom - 1, strip: strip.width, paper: style.backgroundColor, ink: style.color,
    }};
  }});
  document.getElementById("told").textContent = JSON.stringify(told);
}});
</script></body>"""
LONG = "a_word_without_any_place_to_break_it_" * 12


@pytest.fixture(scope="module")
def text():
    """With all that makes it wide: long words, broken promises, warnings."""
    found = results({2: [check(grave="orphaned", found=LONG), check(True)], 3: [check(found=LONG)]})
    found[-8]["verdict"] = found[1]["verdict"] = LONG
    found[-7]["warnings"] = [LONG]
    return page(phase.graded(found, told()))


def measured(tmp_path, text, widths, *options):
    frames = "".join(
        f'<iframe srcdoc="{escape(text)}" style="border:0;width:{width}px;height:800px"></iframe>' for width in widths
    )
    file = tmp_path / "frames.html"
    file.write_text(FRAMES.format(frames=frames))
    words = [*QUIETLY, *options, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1600,1000"]
    ended = subprocess.run(
        [str(BROWSER), *words, "--virtual-time-budget=5000", "--dump-dom", file.as_uri()],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    shown = ended.stdout.partition('<pre id="told">')[2].partition("</pre>")[0]
    return json.loads(unescape(shown))


def brightness(colour):
    return sum(int(part) for part in colour[4:-1].split(",")) / 3


@pytest.mark.timeout(120)
def test_it_fits_a_phone_and_a_wide_screen(tmp_path, text):
    widths = (320, 390, 640, 641, 1440)
    shown = measured(tmp_path, text, widths)
    for width, found in zip(widths, shown, strict=True):
        assert found["width"] == width
        assert found["scroll"] <= width, f"it scrolls sideways at {width}: {found}"
        assert found["beside"] == []
        assert found["strip"] > 100
        assert found["stacked"] is (width <= 640)
        assert brightness(found["paper"]) > 200 > 100 > brightness(found["ink"])


@pytest.mark.timeout(120)
def test_by_night_it_is_dark(tmp_path, text):
    (found,) = measured(tmp_path, text, (390,), "--blink-settings=preferredColorScheme=0")
    assert brightness(found["paper"]) < 60 < 180 < brightness(found["ink"])


@pytest.mark.timeout(120)
def test_what_is_too_wide_would_be_seen(tmp_path, text):
    wide = text.replace("<main>", '<main><div style="width: 500px">a wide thing</div>')
    assert wide != text
    (found,) = measured(tmp_path, wide, (390,))
    assert found["scroll"] > 390
    assert found["beside"]
