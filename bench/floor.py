"""A floor, not a rival: the least that a runner in Python which loses nothing can do. python -I -S floor.py graph.json

Two processes at a time, a line in a journal that is synced at every start and every end, and what the journal says is
done is left out. No deadlines, retries, lock, logs, no look at who is still alive.
"""

import json
import os
import sys

SLOTS = 2


def recorded(path):
    try:
        with open(path) as journal:
            return {name for what, name in map(json.loads, journal) if what == "end"}
    except FileNotFoundError:
        return set()


def run(tasks, path):
    done = recorded(path)
    argv = {name: words for name, _, words in tasks}
    missing = {name: {need for need in needs if need not in done} for name, needs, _ in tasks if name not in done}
    if not missing:
        return
    after = {}
    for name, needs in missing.items():
        for need in needs:
            after.setdefault(need, []).append(name)
    ready = [name for name, needs in missing.items() if not needs][::-1]
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    running = {}
    while ready or running:
        while ready and len(running) < SLOTS:
            name = ready.pop()
            os.write(journal, b'["start", "%s"]\n' % name.encode())
            os.fdatasync(journal)
            running[os.posix_spawnp(argv[name][0], argv[name], os.environ, setpgroup=0)] = name
        pid, status = os.wait()
        name = running.pop(pid)
        if status:
            raise SystemExit(f"{name} failed: {status}")
        os.write(journal, b'["end", "%s"]\n' % name.encode())
        os.fdatasync(journal)
        for later in after.get(name, ()):
            missing[later].discard(name)
            if not missing[later]:
                ready.append(later)


with open(sys.argv[1]) as graph:
    run(json.load(graph), "journal")
