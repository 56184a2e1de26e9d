"""Which settings of a rollout cannot be combined. Every check raises, or returns nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ..attention.cache.policy import CachePolicy, FullHistory, RebuiltWindow, WindowSink
from ..attention.sparse.blocks import TIME_ORDERS
from ..attention.sparse.settings import Sparsity
from ..attention.storage.dense import DENSE, Storage
from ..attention.storage.placement import ON_DEVICE, Placement
from ..attention.temp_cache.policy import TempCache
from ..attention.temp_cache.store import holds_entries
from ..errors import BadInput, Unsupported
from ..model.config import PATCH
from ..model.forward import ModelConfig
from .conditioning.reference import Reference
from .guidance import AgeRange, Guidance, SinkFrames
from .rules.memory import MemoryRules
from .schedule.context_noise import ContextNoise
from .schedule.rows import NoiseSchedule, StaggeredSchedule
from .solvers.noise_process import Flow
from .solvers.single_step import Solver


def check_size(rows: int, columns: int, length: int | None) -> None:
    """Refuse latent pictures that have no whole patches, and rollouts without frames."""
    if min(rows, columns) < PATCH or rows % PATCH or columns % PATCH:
        raise BadInput(
            f"Latent rows and columns must be even and at least 2; got {rows} x {columns}."
        )
    if length is not None and length < 1:
        raise BadInput(f"A rollout needs at least one latent frame; got {length}.")


def check_times(what: str, starts: Sequence[int]) -> None:
    """Refuse changes that are not in order of time."""
    if any(b <= a for a, b in zip(starts, starts[1:], strict=False)):
        raise BadInput(f"{what} times must increase; got latent frames {starts}.")


def check_reencoding(cache: CachePolicy) -> None:
    """Refuse to re-encode the first latent frame of a history that is not rebuilt."""
    if not cache.rebuilt:
        raise Unsupported(
            "Re-encoding the first latent frame changes a frame that is in the history already, "
            "and this KV cache never rebuilds its history",
            "re-encoding",
        )


def check_context_noise(cache: CachePolicy, noise: ContextNoise) -> None:
    """Refuse context noise that rebuilds a history which must be remembered."""
    if cache.remembers and noise.recommits:
        raise Unsupported(
            "Context noise that grows or is drawn afresh rebuilds the history before each chunk, "
            "so its sink cannot average and its frames cannot be judged by attention or remembered "
            "in a bank or a state",
            "context-noise",
            cache=cache,
        )


def check_recall(cache: CachePolicy, guidance: Guidance, *, recaches: bool) -> None:
    """Refuse to commit frames again in a history that fetches them as they were."""
    exact = any(branch.view.rebuilt for branch in guidance.branches)
    if cache.recall_frames and (recaches or exact):
        raise Unsupported(
            "the KV cache recalls latent frames as they were committed, and "
            + ("a change of prompt" if recaches else "an exact view of the guidance")
            + " commits them again",
            "recall-rebuilt",
        )


def check_memory_bank(cache: CachePolicy, schedule: NoiseSchedule, sparsity: Sparsity) -> None:
    """Refuse what needs every layer to see the same latent frames."""
    if not cache.extra_frames:
        return
    order = _key_order(sparsity)
    if order is not None:
        raise Unsupported(
            f"Sparse attention in the order of {order} sorts keys that all layers have of the same "
            "latent frames, and each layer has its own memory bank",
            "bank-order",
        )
    if _reaches_back(schedule):
        raise Unsupported(
            "The schedule bounds how far back chunks look, and a memory bank holds frames beyond "
            "that bound",
            "bank-reach",
        )


def check_memory_rules(memory: MemoryRules, schedule: NoiseSchedule) -> None:
    """Refuse two bounds on how far back chunks look."""
    if memory.of_denoising and _reaches_back(schedule):
        raise Unsupported(
            "The schedule bounds how far back chunks look, and so do the memory rules",
            "rules-reach",
        )


def check_retrieval(memory: MemoryRules, cache: CachePolicy, sparsity: Sparsity) -> None:
    """Refuse to retrieve frames where heads hold no whole frames or choose blocks themselves."""
    if memory.far is None or memory.far.share == 1:
        return
    if cache.heads_differ:
        raise Unsupported(
            "A share of the far past is retrieved in whole latent frames, and the heads of this KV "
            "cache read tokens of their own",
            "retrieval-cache",
            cache=cache,
        )
    if sparsity.self_sparsity is not None:
        raise Unsupported(
            "A share of the far past is retrieved, and block-sparse attention chooses for itself",
            "retrieval-blocks",
        )


def check_positions(memory: MemoryRules, cache: CachePolicy, guidance: Guidance) -> None:
    """Refuse a gap between sink and window where there is no such place."""
    if memory.positions is None:
        return
    if not cache.window_follows_sink:
        raise Unsupported(
            "Top-aligned positions leave a gap between the sink and the window, and this KV cache "
            "is not a sink and a window",
            "positions-cache",
        )
    views = [branch.view for branch in guidance.branches]
    if any(view.rebuilt and isinstance(view.frames, AgeRange) for view in views):
        raise Unsupported(
            "Top-aligned positions belong to the whole history, and the guidance rebuilds a part "
            "of it",
            "positions-parts",
        )


def check_voice(reference: Reference | None, config: ModelConfig) -> None:
    """Refuse a model that speaks without a voice, and a voice for any other model."""
    speaks = reference is not None and reference.voice is not None
    if config.voice and not speaks:
        raise BadInput("The model speaks a voice; give it one, beside the picture.")
    if speaks and not config.voice:
        raise BadInput("The model takes no voice; leave the voice out.")


def check_skipped_layers(guidances: Sequence[Guidance], config: ModelConfig) -> None:
    """Refuse to leave out layers that the model does not have, and to leave out all of them."""
    branches = [branch for guidance in guidances for branch in guidance.branches]
    for layers in (branch.skipped.layers for branch in branches if branch.skipped):
        if max(layers, default=0) >= config.num_layers:
            raise BadInput(
                f"Skip-layer guidance leaves out layer {layers[-1]}, and the model has "
                f"{config.num_layers} layers, 0 to {config.num_layers - 1}."
            )
        if len(layers) == config.num_layers:
            raise BadInput(
                f"Skip-layer guidance leaves out all {config.num_layers} layers of the model; "
                "leave out a few."
            )


def check_second_attention(
    cache: CachePolicy, memory: MemoryRules, schedule: NoiseSchedule
) -> None:
    """Refuse what the second self-attention of a model with a camera cannot follow."""
    if type(cache) not in (FullHistory, WindowSink, RebuiltWindow):
        raise Unsupported(
            "The model reads its history twice, the second time by each latent frame's camera, and "
            "this KV cache does not keep whole latent frames in order of time",
            "camera-cache",
            cache=cache,
        )
    if memory.of_denoising or memory.of_commits:
        raise Unsupported(
            "The memory rules choose what attention reads, and the model reads its history a "
            "second time by each latent frame's camera",
            "camera-rules",
        )
    if _reaches_back(schedule):
        raise Unsupported(
            "The schedule bounds how far back chunks look, and the model reads its history a "
            "second time by each latent frame's camera",
            "camera-reach",
        )


def check_own_heads(cache: CachePolicy, schedule: NoiseSchedule, sparsity: Sparsity) -> None:
    """Refuse attention that needs all heads to see the same latent frames."""
    if not cache.heads_differ:
        return
    if _reaches_back(schedule):
        raise Unsupported(
            "The schedule bounds how far back chunks look, and every head reads keys of other "
            "latent frames",
            "heads-reach",
        )
    order = _key_order(sparsity)
    if not cache.codes_rows and order is not None:
        raise Unsupported(
            f"Sparse attention in the order of {order} sorts keys that all heads have of the same "
            "latent frames, and here every head keeps its own",
            "heads-order",
        )


def check_own_heads_storage(
    cache: CachePolicy, storage: Storage, placement: Placement, *, recaches: bool
) -> None:
    """Refuse storage that a history of every head's own does not have."""
    if not cache.heads_differ:
        return
    if placement != ON_DEVICE or recaches:
        raise Unsupported(
            "Where every head reads its own history, the history stays on the device and cannot be "
            "re-cached",
            "heads-placement",
            cache=cache,
        )
    if storage != DENSE and not cache.codes_rows:
        raise Unsupported(
            "Where every head keeps its own latent frames, they are stored as computed",
            "heads-storage",
        )
    if isinstance(cache, TempCache) and not holds_entries(storage):
        raise Unsupported(
            "A TempCache stores all of its entries alike, as computed or in fp8, int8 or int4, so "
            "that no newest latent frames stay unquantised",
            "entries-storage",
        )


def check_guidance(guidance: Guidance, cache: CachePolicy, solver: Solver) -> None:
    """Refuse guidance that this cache or solver cannot serve."""
    views = [branch.view for branch in guidance.branches]
    if cache.sink_frames == 0 and any(isinstance(view.frames, SinkFrames) for view in views):
        raise Unsupported("The guidance looks at the sink and the KV cache has none", "no-sink")
    cut = any(isinstance(view.frames, AgeRange) and not view.rebuilt for view in views)
    if cut and cache.heads_differ:
        raise Unsupported(
            "The guidance looks at latent frames by age, and every head reads other frames",
            "heads-ages",
            cache=cache,
        )
    if guidance.weighted_scores and not isinstance(solver.process, Flow):
        raise BadInput(
            f"Scores need a flow model's solver, not {type(solver).__name__} on "
            f"{type(solver.process).__name__}; choose another solver or leave them out."
        )


def _key_order(sparsity: Sparsity) -> str | None:
    """The order in which sparse attention sorts coded keys; None for the order of time."""
    order = sparsity.self_sparsity.order if sparsity.self_sparsity is not None else "time"
    return None if order in TIME_ORDERS else order


def _reaches_back(schedule: NoiseSchedule) -> bool:
    """Whether the schedule bounds how far back chunks look."""
    return isinstance(schedule, StaggeredSchedule) and bool(schedule.reach)
