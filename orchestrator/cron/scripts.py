"""The two scripts of a schedule: one that cron starts when it is due, and one that notices that nobody did.

A line of a crontab is short, and each cron has rules of its own for what may stand in it; so it names a script. That
one sets up what orch was added with, because cron gives next to nothing. The one that watches needs no Python, and no
orch: that these are broken may be just what it is there to say.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.core.expression import plain
from orchestrator.core.outward import MISSED, Target
from orchestrator.core.schedule import Schedule

NOTED = ("PATH", "LANG", "TZ", "PYTHONPATH")  # of the shell that the schedule was added from
START, WATCH = ".sh", ".watch.sh"


def script_of(root: Path, name: str, suffix: str = START) -> Path:
    return folder_of(root) / f"{name}{suffix}"


def folder_of(root: Path) -> Path:
    return root / "system" / "schedules"


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in NOTED if environ.get(name)}


def fire(root: Path, name: str) -> list[str]:
    return [*orch(), "cron", "fire", name, "--project", str(root)]


def orch() -> list[str]:
    """This orch, by this Python. -P: a folder of the project that is called like a module is not taken for it."""
    return [sys.executable, "-P", "-m", "orchestrator.cli"]


def start_script(root: Path, schedule: Schedule, environ: Mapping[str, str]) -> str:
    """Passes on what is printed, for cron mails it, and keeps it; ends as the run did."""
    system = root / "system"
    return "\n".join(
        [
            *_head(f"starts what is due of schedule {schedule.name} ({plain(schedule.at)})"),
            *_exports(environ),
            f"cd {_q(root)} || exit 2",
            f"log={_q(system / 'logs' / 'cron' / f'{schedule.name}.log')}",
            f'(umask 077; mkdir -p {_q(system / "logs" / "cron")}; : >>"$log")',
            "exec 3>&1  # what cron mails",
            "code=$(",
            "  {",
            f"    {{ {shlex.join(fire(root, schedule.name))} </dev/null 2>&1 3>&- 4>&-; echo $? >&4; }} |",
            "      { trap '' PIPE; exec tee -a \"$log\"; } >&3 4>&-  # kept also where nobody reads it",
            "  } 4>&1",
            ")",
            'exit "${code:-70}"',
            "",
        ]
    )


_WATCH = """\
say() { printf 'orch: schedule %s of %s: %s\\n' "$name" "$project" "$1"; }
cd "$folder" || { say "$folder cannot be entered, so nobody starts what is due"; exit 1; }
[ -e "$name.json" ] || exit 0
umask 077
now=$(date +%s)
said= tried=
read -r said tried 2>/dev/null <"$name.said"
case $said in '' | *[!0-9]*) said=0 ;; esac
[ "$said" -le "$now" ] || said=0  # the clock was wrong then, and has been set back
last= missed=0 count=0
while read -r by; do
  case $by in '' | *[!0-9]*) last=; break ;; esac
  last=$by
  if [ "$by" -le "$now" ] && [ "$by" -gt "$said" ]; then missed=$by count=$((count + 1)); fi
done <<END
$(cat "$name.next" 2>/dev/null)
END
if [ -z "$last" ]; then  # nobody can know what is due: said once, until there is something to read
  [ "$said" = 1 ] && exit 0
  missed=1 due=unknown
  what="$folder/$name.next cannot be read, so nobody knows whether it was started"
else
  [ "$count" -gt 0 ] || exit 0
  due=$((missed - grace))
  when=$(date -u -d "@$due" +%Y-%m-%dT%H:%M:00Z 2>/dev/null) || when="$due (seconds since 1970)"
  what="nobody started what was due at $when"
  [ "$count" -gt 1 ] && what="$what, and $((count - 1)) before it"
fi
keep() { printf '%s\\n' "$1" >".$name.said.new" && mv ".$name.said.new" "$name.said"; }
[ "$tried" = "$missed" ] && exec >/dev/null 2>&1  # cron has mailed it
say "$what"
keep "$said $missed"  # nobody was told yet: that is for the next look, if we come to no end
"""
_TELL = """\
limited=; command -v timeout >/dev/null 2>&1 && limited='timeout 120'
# shellcheck disable=SC2086  # two words, or none
if [ "$due" != unknown ] && $limited {notify} </dev/null >/dev/null 2>&1; then keep "$missed"; exit 1; fi
"""
_POST = """\
body={body}
body=$(printf '%s' "$body" | sed "s/@DUE@/$due/g")
post() {{
  if command -v curl >/dev/null 2>&1; then  # the address is no argument: whoever lists processes would see it
    code=$(printf 'url = "%s"\\n' "$1" |
      curl -fsS -m 30 --retry 5 --retry-connrefused -o /dev/null -w '%{{http_code}}' -K - \\
        -H 'Content-Type: application/json' --data "$body")
    case $code in 2??) ;; *) return 1 ;; esac  # a redirect is followed by neither
  elif command -v wget >/dev/null 2>&1; then
    printf '%s\\n' "$1" |
      wget -q -T 30 -t 1 --max-redirect=0 -O /dev/null --header='Content-Type: application/json' \\
        --post-data="$body" -i -
  else
    say 'neither curl nor wget is there to tell it to anybody'
    return 1
  fi
}}
told=
for url in {urls}; do
  if post "$url"; then told=1; else say 'and a target of [notify] could not be told so'; fi
done
[ "$told" ] || exit 1
"""


def watch_script(
    root: Path, schedule: Schedule, environ: Mapping[str, str], targets: Iterable[Target]
) -> str:  # fmt: skip
    """Each instant is said once; to those who are told in [notify] by orch, and if that fails from here, until it is
    heard: cron's mail, which few read, counts only where nobody else is to be told."""
    targets = [one for one in targets if MISSED in one.events and not one.ping]
    notify = [*orch(), "notify", "missed", schedule.name]
    urls = [_q(one.url) for one in targets if is_plain(one)]
    tell = _TELL.format(notify=f'{shlex.join(notify)} "$due" --project {_q(root)}')
    text = f"nobody started what was due of schedule {schedule.name} of {root}, and orch is broken"
    body = {
        "event": MISSED, "id": f"{MISSED}.{schedule.name}.@DUE@", "project": str(root), "schedule": schedule.name,
        "due": "@DUE@", "text": text,
    }  # fmt: skip
    post = _POST.format(body=_q(json.dumps(body)), urls=" ".join(urls)) if urls else ""
    if targets and not urls:
        post = '[ "$due" = unknown ] || exit 1\n'
    lines = [
        *_head(f"says so when schedule {schedule.name} ({plain(schedule.at)}) was not started"),
        *_exports(environ),
        f"name={_q(schedule.name)} project={_q(root)} folder={_q(folder_of(root))} grace={int(schedule.watch)}",
    ]
    return "\n".join(lines) + f'\n{_WATCH}{tell}{post}keep "$missed"\nexit 1\n'


def is_plain(target: Target) -> bool:
    """A webhook that a shell can reach, which wants to hear of this."""
    return target.url.startswith(("http://", "https://")) and MISSED in target.events and '"' not in target.url


def _head(what: str) -> list[str]:
    return ["#!/bin/sh", f"# Made by `orch cron add`, and made anew by it: {what}."]


def _exports(environ: Mapping[str, str]) -> list[str]:
    noted = environment(environ)
    told = " ".join(f"{name}={_q(value)}" for name, value in noted.items())
    return [told, f"export {' '.join(noted)}"] if noted else []


def _q(value: object) -> str:
    return shlex.quote(str(value))
