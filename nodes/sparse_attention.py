"""ANN-Sparse Attention: long histories merged, self-attention by blocks, short prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from comfy_api.latest import io

from ..attention.cache_policy import WindowSink
from ..attention.kernels import choice
from ..attention.kv_storage import DENSE
from ..attention.override import AttentionOverride
from ..attention.placement import ON_DEVICE
from ..attention.select import fewest_keys
from ..attention.sparse_settings import SparseCross, SparseSelf, Sparsity
from ..attention.temp_policy import ALIKE, ATTENDED, TempCache
from ..errors import BadInput
from ..samplers.settings import RolloutSettings
from . import host, sockets
from .schema import build

KEY = "longtake.attention"
CUSTOM, WHERE_FASTER, ALWAYS, OFF = "custom", "where faster", "always", "off"
MERGE_PADDING, PRUNE = "merge padding", "prune"
GIVES_WAY = {"what differs": ALIKE, "merged": ATTENDED}


@dataclass(frozen=True, slots=True)
class Strength:
    """A preset: the cosine to merge above, the density, and the recall to fall back under."""

    merge_above: float
    density: float
    recall_floor: float


PRESETS = {
    "quality": Strength(0.97, 0.5, 0.9),
    "balanced": Strength(0.95, 0.3, 0.85),
    "fast": Strength(0.9, 0.15, 0.7),
}


@dataclass(frozen=True, slots=True)
class AskedAttention:
    """What a MODEL carries: the cosine to merge its KV cache above, if so, what is sparse, and what
    gives way in the cache.
    """

    merge_above: float | None
    sparsity: Sparsity
    gives_way: str = ALIKE

    def put_in_force(self, settings: RolloutSettings) -> RolloutSettings:
        """`settings` with it: a window's frames become as many entries."""
        settings = replace(settings, sparsity=self.sparsity)
        if self.merge_above is None:
            return settings
        window, place = settings.cache, (settings.storage, settings.placement)
        if type(window) is not WindowSink or place != (DENSE, ON_DEVICE):
            raise BadInput(
                "TempCache of ANN-Sparse Attention takes the place of a plain window; choose "
                "`window + sink`, stored as computed on the device, in KV Cache Settings, or "
                "switch temp_cache off."
            )
        above, frames = self.merge_above, window.window_frames
        merged = TempCache(
            frames, above, above, window.sink_frames, frames, most_mass=1, gives_way=self.gives_way
        )
        return replace(settings, cache=merged)


def asked_attention(model: Any) -> AskedAttention | None:
    """What an ANN-Sparse Attention node put on a MODEL."""
    return host.attached(model, KEY)


class SparseAttentionNode(io.ComfyNode):
    """MODEL to MODEL; our sampler reads what it carries, the host's calls the override."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeSparseAttention",
            display_name="ANN-Sparse Attention",
            category=sockets.CATEGORY,
            description="Attention to long histories without looking at all of it: like keys are "
            "merged (TempCache), queries read the blocks that matter (AnnSA), prompt padding "
            "counts once (AnnCA). What it did stands in the preview and in the report.",
            search_aliases=["fast-ar", "sparse attention", "tempcache", "block sparse", "speed"],
            inputs=[
                io.Model.Input("model", tooltip="Any Wan model."),
                *_merging(),
                *_sparse(),
                *_chosen(),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        model: Any,
        preset: str,
        temp_cache: bool,
        merge_above: float,
        self_attention: str,
        density: float,
        recall_floor: float,
        prompt_attention: str,
        keep: str,
        kernel: str,
    ) -> io.NodeOutput:
        """A clone of the model that carries the settings and overrides the host's attention."""
        chosen = PRESETS.get(preset) or Strength(merge_above, density, recall_floor)
        of_self = _of_self(self_attention, chosen, _usable(kernel, model.load_device))
        sparsity = Sparsity(of_self, _of_prompt(prompt_attention))
        above = chosen.merge_above if temp_cache else None
        twin = model.clone()
        host.attach(twin, KEY, AskedAttention(above, sparsity, GIVES_WAY[keep]))
        host.override_attention(twin, lambda before: AttentionOverride(sparsity, before))
        if of_self is not None:
            host.say(cls.hidden.unique_id, _said(self_attention, of_self, model.load_device))
        return io.NodeOutput(twin)


def _of_self(when: str, chosen: Strength, kernel: str) -> SparseSelf | None:
    if when == OFF:
        return None
    least, floor = 0 if when == ALWAYS else None, chosen.recall_floor
    return SparseSelf(chosen.density, recall_floor=floor, fewest_keys=least, kernel=kernel)


def _said(when: str, of_self: SparseSelf, device: Any) -> str:
    _, reason = fewest_keys(of_self.fewest_keys, device)
    kernel, why = choice.chosen_kernel(of_self.kernel, device)
    return f"Sparse self-attention {when}: {reason}. Kernel {kernel}: {why}."


def _usable(kernel: str, device: Any) -> str:
    reason = choice.missing_kernel(kernel, device)
    if reason is not None:
        raise BadInput(
            f"the kernel {kernel} of ANN-Sparse Attention cannot be used on {device}: {reason}; "
            "choose `auto`."
        )
    return kernel


def _of_prompt(how: str) -> SparseCross | None:
    return None if how == OFF else SparseCross(prune=how == PRUNE)


def _merging() -> list[io.Input]:
    return [
        io.Combo.Input(
            "preset",
            options=[*PRESETS, CUSTOM],
            default="balanced",
            tooltip="`quality` leaves out little, `balanced` more, `fast` much; `custom` uses "
            "merge_above, density and recall_floor below, which are not used otherwise.",
        ),
        io.Boolean.Input(
            "temp_cache",
            default=False,
            tooltip="TempCache: the window of KV Cache Settings becomes as many entries for each "
            "head, which reach back over all of the shot. True or false. Streaming sampler only.",
        ),
        io.Float.Input(
            "merge_above",
            default=0.95,
            min=0.5,
            max=1.01,
            step=0.01,
            tooltip="TempCache, with `custom` and `merged`: the likeness (cosine, no unit, 0.5 to "
            "1.01) above which keys are merged; 1.01 never merges.",
        ),
    ]


def _sparse() -> list[io.Input]:
    return [
        io.Combo.Input(
            "self_attention",
            options=[WHERE_FASTER, ALWAYS, OFF],
            default=WHERE_FASTER,
            tooltip="AnnSA: `where faster` as measured on this kind of device, else dense; "
            "`always` for trying it out; `off`: dense.",
        ),
        io.Float.Input(
            "density",
            default=0.3,
            min=0.05,
            max=1.0,
            step=0.05,
            tooltip="AnnSA, with `custom`: the share of the history that a query reads, no unit, "
            "0.05 to 1.",
        ),
        io.Float.Input(
            "recall_floor",
            default=0.85,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="AnnSA, with `custom`: a head whose blocks hold a smaller share of its "
            "attention than this, no unit, 0 to 1, stays dense for the chunk; counted in the "
            "preview.",
        ),
        io.Combo.Input(
            "prompt_attention",
            options=[MERGE_PADDING, PRUNE, OFF],
            default=MERGE_PADDING,
            tooltip="AnnCA: `merge padding` is exact; `prune` also leaves out words that no query "
            "of the chunk is near; `off`: dense. The host's own sampler merges only.",
        ),
    ]


def _chosen() -> list[io.Input]:
    return [
        io.Combo.Input(
            "keep",
            options=[*GIVES_WAY],
            default="what differs",
            tooltip="TempCache: `what differs` merges nothing, and where there is no room, keys "
            "that newer ones say again give way; `merged` makes like keys one, then those that "
            "are attended to least give way.",
        ),
        io.Combo.Input(
            "kernel",
            options=[*choice.NAMES],
            default=choice.AUTO,
            tooltip="AnnSA: what attends to the chosen keys. `auto` is `gathered`, plain PyTorch, "
            "until another is shown to be faster; `flex` compiles FlexAttention; `triton` needs "
            "an NVIDIA GPU.",
        ),
    ]
