"""Phase 1: which texts there are. A file in phases/ defines one phase or several; its name is for people only."""

from orchestrator import Context, NotFound, phase


@phase(1, needs=[], timeout="1m")
def gather(ctx: Context) -> dict:
    """Find the texts to count."""  # this line is what `orch status` and the run show of the phase
    files = sorted(ctx.path("texts").glob("*.txt"))  # ctx.path is relative to the project, wherever orch was started
    if not files:
        # The error says whether trying again can help: this one cannot be mended by waiting, and is never retried.
        raise NotFound("texts/ holds no .txt file: put some there, then `orch run`")
    print("found", *files)  # `orch logs 1`
    return {"verdict": f"{len(files)} texts", "files": [str(file.relative_to(ctx.project)) for file in files]}
