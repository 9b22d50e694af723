from __future__ import annotations

from pathlib import Path

from aerotask.raster.progress import StageProgress
from aerotask.sdk.run import LogLine, Run, RunProgress


def test_stages_share_the_whole_and_small_steps_are_not_reported(tmp_path: Path) -> None:
    events: list[RunProgress | LogLine] = []
    ctx = Run(inputs={}, workdir=tmp_path, threads=1, emit=events.append)
    progress = StageProgress(
        ctx, {"pixels": (0.0, 0.5), "cog": (0.5, 1.0)}, {"pixels": "writing", "cog": "arranging"}
    )
    progress.report("pixels", 0.5)
    progress.report("pixels", 0.505)
    progress.reporter("cog")(0.5)
    assert events == [RunProgress(0.25, "writing"), RunProgress(0.75, "arranging")]
