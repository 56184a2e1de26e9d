"""The report of a rollout's run, the same whichever output writes it."""

from __future__ import annotations

from dataclasses import replace

from ...attention.sparse.stats import SparseStats
from ...samplers.planning.cost import histories_used
from ...stream.metrics import Meter, Report
from ..attention.describe import told
from ..models.model_facts import facts
from .host_rollout import HostRollout


def run_report(
    rollout: HostRollout, meter: Meter, *, fps: float, size: tuple[int, int], model_evals: int
) -> Report:
    """The facts about the run so far, of pictures of that width and height; where it is written to
    is for the output to add.
    """
    run = rollout.run
    sparse = run.sparse or SparseStats()
    width, height = size
    report = meter.report(
        Report(
            rollout_id=rollout.id,
            width=width,
            height=height,
            fps_target=fps,
            kv_bytes=rollout.kv_bytes,
            kv_bytes_planned=rollout.kv_bytes_planned,
            model_load_s=rollout.claim.load_s,
            model_evals=model_evals,
            attention_density=sparse.density,
            ann_recall=sparse.recall,
            dense_fallbacks=run.sparse and sparse.dense_fallbacks,
            drift=run.drift.largest,
            resumed_from_chunk=rollout.resumed_from,
            edits=[edit.summary for edit in run.controls.edits if edit.applied],
        )
    )
    return replace(report, versions={**(report.versions or {}), **_decided(rollout)})


def _decided(rollout: HostRollout) -> dict[str, str | None]:
    """What else decides about a result, by name."""
    decided = {
        "guidance": histories_used(rollout.settings),
        "model": facts(rollout.claim.model).assumed,
        "from_model": rollout.from_model or None,
        "attention": told(rollout.settings, rollout.model.device) or None,
    }
    recached = rollout.run.state.settings.recache_frames
    if recached:
        decided["recached"] = f"at latent frame {', '.join(map(str, recached))}"
    return decided
