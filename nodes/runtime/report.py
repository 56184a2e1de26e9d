"""The report of a rollout's run, the same for every output."""

from __future__ import annotations

from dataclasses import asdict, replace

from ...attention.sparse.stats import SparseStats
from ...samplers.feature_caching import Evaluations
from ...samplers.planning.caching import describe_replaced
from ...samplers.planning.cost import histories_used
from ...samplers.planning.rules import describe_rules
from ...stream.metrics import Meter, Report, peak_vram_bytes
from ..attention.describe import describe_attention
from ..models.model_facts import facts
from ..planning.decoding import DecodingApart
from .host_rollout import HostRollout


def run_report(
    rollout: HostRollout,
    meter: Meter,
    *,
    fps: float,
    size: tuple[int, int],
    evaluations: Evaluations,
) -> Report:
    """The facts about the run so far; `size` is a picture's width and height in pixels.

    The output adds the names of its files.
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
            **asdict(run.latency.figures),
            kv_bytes=rollout.kv_bytes,
            kv_bytes_planned=rollout.kv_bytes_planned,
            model_load_s=rollout.claim.load_s,
            model_evals=evaluations.computed,
            attention_density=sparse.density,
            ann_recall=sparse.recall,
            dense_fallbacks=run.sparse and sparse.dense_fallbacks,
            drift=run.drift.largest,
            resumed_from_chunk=rollout.resumed_from,
            edits=[
                *(edit.summary for edit in run.controls.edits if edit.applied),
                *(f"camera {line}" for line in run.controls.drive.lines),
            ],
        )
    )
    further = _further_versions(rollout) | _caching(rollout, evaluations)
    return replace(report, versions={**(report.versions or {}), **further})


def _caching(rollout: HostRollout, evaluations: Evaluations) -> dict[str, str | None]:
    """What feature caching has replaced; nothing without it."""
    said = describe_replaced(rollout.settings, evaluations)
    return {} if said is None else {"feature_caching": said}


def with_device(report: Report, apart: DecodingApart | None) -> Report:
    """Note the device on which the pictures were decoded, where it is not the model's."""
    if apart is None:
        return report
    noted = f"{apart.device}, {apart.total_bytes} bytes planned"
    peak = peak_vram_bytes(apart.device)
    if peak is not None:
        noted = f"{noted}, {peak} at most"
    return replace(report, versions={**(report.versions or {}), "decode_on": noted})


def _further_versions(rollout: HostRollout) -> dict[str, str | None]:
    """What else decides about the result, by name."""
    versions = {
        "guidance": histories_used(rollout.settings),
        "model": facts(rollout.claim.model).assumed,
        "from_model": rollout.provenance.from_model or None,
        "memory_rules": describe_rules(rollout.settings, rollout.model.config.num_layers),
        "attention": describe_attention(rollout.settings, rollout.model.device) or None,
    }
    if rollout.run.model.summary is not None:
        versions["compiled"] = rollout.run.model.summary
    dropped = rollout.run.receiving.dropped
    if dropped is not None:
        versions["live_input"] = f"{dropped} frames left out"
    if rollout.run.offloaded_bytes:
        versions["kv_beside_device"] = f"{rollout.run.offloaded_bytes} bytes"
    if rollout.run.recalled:
        versions["recalled"] = "; ".join(rollout.run.recalled)
    recached = rollout.run.state.settings.recache_frames
    if recached:
        versions["recached"] = f"at latent frame {', '.join(map(str, recached))}"
    return versions
