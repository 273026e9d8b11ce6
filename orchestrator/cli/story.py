"""orch story: every decision about a phase, with what caused it, out of the journal."""

from __future__ import annotations

from typing import Annotated

from orchestrator.cli.frame import root_of, show, show_json
from orchestrator.cli.options import JsonOption, NumberArgument, ProjectOption
from orchestrator.core.events import Event
from orchestrator.core.story import Chapter, concerns, is_about
from orchestrator.errors import UsageError
from orchestrator.store.reading import read_lines

EXAMPLE = "Example: orch story -8"


def command(
    number: Annotated[int, NumberArgument],
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Tell what was decided about phase N, when, and because of what."""
    chapters, lines = [], read_lines(root_of(project) / "system")
    for line in lines:
        for data, because in zip(line.events, line.because, strict=True):
            event = Event.from_dict(data)
            if concerns(event, number):
                chapters.append(Chapter(line.seq, line.at, event, because))
    if not is_about(chapters, number):
        raise UsageError(f"the journal has no decision about phase {number}", "`orch status` lists the phases")
    if as_json:
        show_json([chapter.as_dict() for chapter in chapters])
        return
    if lines and lines[0].seq > 1:
        show(f"(decisions before {lines[0].at} are not kept any more)")
    for chapter in chapters:
        show(f"{chapter.at}  {chapter.sentence()}\n{'':26}because {chapter.because}")
