"""The key of an attempt: equal keys would do the same work, so a result stands for as long as its key does."""

from __future__ import annotations

import hashlib
import json

from orchestrator.core.spec import Spec

RECIPE = 1  # raised whenever the same phase would get another key: old results are then compared with nothing


def attempt_key(spec: Spec) -> str:
    """What decides what an attempt does. Not its name, title, deadline or tries: they only say how it is treated."""
    ingredients = {
        "recipe": RECIPE,
        "number": spec.number,
        # A command is its own code. Its file's digest would make every edit beside it look like a change of it.
        "code": spec.digest if spec.run is None else "",
        "run": list(spec.run) if isinstance(spec.run, tuple) else spec.run,
        "env": spec.env,
        "cwd": spec.cwd,
    }
    if spec.item is not None:
        ingredients["item"] = spec.item
    text = json.dumps(ingredients, sort_keys=True, separators=(",", ":"))
    return f"{RECIPE}:{hashlib.sha256(text.encode()).hexdigest()}"
