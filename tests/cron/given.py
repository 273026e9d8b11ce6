"""A crontab program with a file behind it, as strict as Debian's."""

from __future__ import annotations

import os
from pathlib import Path

_PROGRAM = """#!/bin/sh
here=$(dirname "$0")
[ -e "$here/forbidden" ] && { echo "You (me) are not allowed to use this program (crontab)" >&2; echo "See crontab(1) for more information" >&2; exit 1; }
case $1 in
-l) [ -e "$here/tab" ] || { echo 'no crontab for me' >&2; exit 1; }
    cat "$here/tab" ;;
-r) rm "$here/tab" ;;
*)  [ -e "$here/slow" ] && sleep 0.1
    [ ${#1} -lt 100 ] || { echo "$1: No such file or directory" >&2; exit 1; }
    if [ -s "$1" ] && [ "$(tail -c 1 "$1" | od -An -tx1)" != ' 0a' ]; then
      echo "new crontab file is missing newline before EOF, can't install." >&2; exit 1
    fi
    [ -e "$here/broken" ] && { echo '"-":0: bad minute' >&2; exit 1; }
    cat "$1" >"$here/tab.new" && mv "$here/tab.new" "$here/tab"
    if [ -e "$here/edited" ]; then rm "$here/edited"; echo '# by another' >>"$here/tab"; fi ;;
esac
"""


class Crontab:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.program, self.file = folder, folder / "crontab", folder / "tab"
        self.program.write_text(_PROGRAM)
        self.program.chmod(0o755)

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.folder}:{os.environ['PATH']}"}

    @property
    def text(self) -> str | None:
        return self.file.read_text() if self.file.exists() else None

    def times(self) -> list[str]:
        """Of the lines that are no comments: all before the command."""
        return [line.partition(" /bin/sh")[0] for line in (self.text or "").splitlines() if not line.startswith("#")]

    def is_now(self, what: str) -> None:
        """forbidden, slow, broken; edited by another just after it was written, once"""
        (self.folder / what).touch()
