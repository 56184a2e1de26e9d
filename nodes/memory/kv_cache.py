"""KV Cache Settings: how much of the past the model sees, and how it is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from comfy_api.latest import io

from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.placement import ON_DEVICE, InMainMemory, OnDisk, Placement
from ...attention.storage.quantize import FLOAT8, INT4, INT8
from ...model.preset import DEMO
from ...samplers.history.settings import CacheSettings, FirstLatent
from ...samplers.schedule.options import FROM_MODEL
from ...samplers.settings import OnPromptChange
from ...samplers.settings_checks import check_own_heads_storage
from .. import categories, host, sockets
from ..advice import advising
from ..from_model import FROM_MODEL as FROM_MODEL_NUMBER
from ..from_model import TIP, set_or_none
from ..runtime.host_codec import host_codec
from ..schema import build
from ..validation import refuses
from .cache_spec import POLICIES, KVCacheSpec

AS_COMPUTED = "as computed"
CODECS = {"fp8": FLOAT8, "int8": INT8, "int4": INT4}
ON_THE_DEVICE, MAIN_MEMORY, DISK = "device", "main memory", "disk"
PLACES: dict[str, Callable[[], Placement]] = {
    ON_THE_DEVICE: lambda: ON_DEVICE,
    MAIN_MEMORY: InMainMemory,
    DISK: lambda: OnDisk(host.temp_folder() / "longtake_kv"),
}


def _check_window(policy: str, window_frames: int, sink_frames: int) -> None:
    """Refuse (BadInput) a window without room beside its sink."""
    _request(policy, window_frames, sink_frames, FROM_MODEL_NUMBER, 0)


def _request(
    policy: str, window_frames: int, sink_frames: int, recall_frames: int, archive_frames: int
) -> KVCacheSpec:
    """The request for these numbers of latent frames; BadInput where they do not go together."""
    return KVCacheSpec(
        CacheSettings,
        policy,
        set_or_none("window_frames", window_frames, 1),
        set_or_none("sink_frames", sink_frames, 0),
        set_or_none("recall_frames", recall_frames, 0),
        archive_frames or None,
    )


def _check_storage(policy: str, storage: str, placement: str, prompt_switch: str) -> None:
    """Refuse (BadInput) what a policy with a history of every head's own does not take."""
    if policy in POLICIES:
        cache = POLICIES[policy](DEMO.window_frames, 0)  # their numbers play no part in it
        place, recaches = PLACES[placement](), prompt_switch == "re-cache"
        with advising():
            check_own_heads_storage(cache, _storage(storage, 0), place, recaches=recaches)


@refuses(_check_window, _request, _check_storage)
class KVCacheSettings(io.ComfyNode):
    """Widgets to a KV_CACHE value."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeKVCacheSettings",
            display_name="KV Cache Settings",
            category=categories.SAMPLE,
            description="Sets how much of the past the model sees, and how it is stored. A longer "
            "window remembers more and costs memory and time; the sampler shows how much.",
            search_aliases=[
                "window",
                "sink",
                "context length",
                "memory",
                "int8",
                "offload",
                "recall",
                "dummy forcing",
            ],
            inputs=[*_what(), *_how(), *_when(), *_past()],
            outputs=[sockets.KVCache.Output(display_name="kv_cache")],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        policy: str,
        window_frames: int,
        sink_frames: int,
        storage: str = AS_COMPUTED,
        unquantised_frames: int = DEMO.chunk_frames,
        placement: str = ON_THE_DEVICE,
        budget_gb: float = 0.0,
        prompt_switch: OnPromptChange = "keep",
        first_latent: FirstLatent = "automatic",
        vae: Any = None,
        recall_frames: int = FROM_MODEL_NUMBER,
        archive_frames: int = 0,
    ) -> io.NodeOutput:
        """Return the settings; the sampler fills in the values from its model."""
        settings = partial(
            CacheSettings,
            storage=_storage(storage, unquantised_frames),
            placement=PLACES[placement](),
            on_prompt_change=prompt_switch,
            first_latent=first_latent,
            budget_bytes=int(budget_gb * 2**30) or None,
            codec=None if vae is None or first_latent != "re-encode" else host_codec(vae),
        )
        frames = policy, window_frames, sink_frames, recall_frames, archive_frames
        return io.NodeOutput(replace(_request(*frames), settings=settings))


def _storage(name: str, unquantised_frames: int) -> Storage:
    return DENSE if name == AS_COMPUTED else Packed(CODECS[name], unquantised_frames)


def _what() -> list[io.Input]:
    return [
        io.Combo.Input(
            "policy",
            options=[FROM_MODEL, *POLICIES],
            default=FROM_MODEL,
            tooltip="`from model`: as trained. `window + sink`: constant memory. `full`: keeps "
            "everything; memory grows, for short shots only. `window + EMA sink`: averages what "
            "leaves the window into the sink (Reward Forcing). `rebuilt window`: recomputes the "
            "window before each chunk, so errors do not build up, at the cost of a pass (Krea). "
            "`most attended`: keeps the most used latent frames, for all heads or per head. "
            "`window + memory bank`: adds the three latent frames most like the prompt (MemFlow). "
            "`window + deep sink`: half of the window is sink (Deep Forcing). `attention + "
            "diversity`: every layer keeps what it uses, spread over time (TetherCache). `window + "
            "dummy heads`: the half of the heads that hardly look back read the newest latent "
            "frame alone, which saves time (Dummy Forcing). `window + recall by view`: keeps the "
            "past in main memory and fetches, before each chunk, what the camera saw there. "
            "`window + recall by content`: fetches what came next where the past looks like the "
            "newest latent frames. `window + state`: writes what leaves into a state of constant "
            "size, for models with layers for it.",
        ),
        io.Int.Input(
            "window_frames",
            default=FROM_MODEL_NUMBER,
            min=FROM_MODEL_NUMBER,
            max=4096,
            tooltip="Latent frames kept, sink included, 1 to 4096 (one is 4 frames of video). "
            "Lower it for speed and memory. The demo has 21: the newest 12, and 9 that it fetches "
            f"when the camera comes back. Not used by `full`. {TIP}",
        ),
        io.Int.Input(
            "sink_frames",
            default=FROM_MODEL_NUMBER,
            min=FROM_MODEL_NUMBER,
            max=4095,
            tooltip="Number of first latent frames that are never dropped, 0 to 4095. 1 to 3 can "
            "steady long shots of distilled models. Under strong guidance, take half of the "
            f"window. The demo needs 0. Not used by `full`. {TIP}",
        ),
    ]


def _how() -> list[io.Input]:
    return [
        io.Combo.Input(
            "storage",
            options=[AS_COMPUTED, *CODECS],
            default=AS_COMPUTED,
            optional=True,
            advanced=True,
            tooltip="Format of older latent frames. `as computed`: unchanged. `fp8` and `int8` "
            "take about half of bf16's bytes, `int4` 0.3; all are a little slower. int8 can hardly "
            "be told from the original. Not with `most attended, per head` or `attention + "
            "diversity`.",
        ),
        io.Int.Input(
            "unquantised_frames",
            default=DEMO.chunk_frames,
            min=0,
            max=64,
            optional=True,
            advanced=True,
            tooltip="For fp8, int8 and int4: newest latent frames that stay as computed, 0 to 64. "
            "They matter most; one chunk is a good value.",
        ),
        io.Combo.Input(
            "placement",
            options=[ON_THE_DEVICE, MAIN_MEMORY, DISK],
            default=ON_THE_DEVICE,
            optional=True,
            advanced=True,
            tooltip="Where older latent frames are stored; the video is the same. `device`: with "
            "the model, fastest. `main memory`: frees the graphics card and fetches one layer "
            "ahead. `disk`: temporary files, for very long `full` histories.",
        ),
        io.Float.Input(
            "budget_gb",
            default=0.0,
            min=0.0,
            max=1024.0,
            step=0.1,
            optional=True,
            advanced=True,
            tooltip="Limit for the KV cache on the device, in GB, 0 to 1024 (0: no limit). The "
            "window shrinks to fit, and the sampler shows its length. `full` becomes a window if "
            "it does not fit.",
        ),
    ]


def _when() -> list[io.Input]:
    return [
        io.Combo.Input(
            "prompt_switch",
            options=["keep", "re-cache", "flush"],
            default="keep",
            optional=True,
            advanced=True,
            tooltip="What happens to the history when the prompt changes. `keep`: it stays. "
            "`re-cache`: it is recomputed under the new prompt, which acts sooner. `flush`: only "
            "the sink and the newest latent frame stay: a hard change.",
        ),
        io.Combo.Input(
            "first_latent",
            options=["automatic", "sink", "leave", "re-encode"],
            default="automatic",
            optional=True,
            advanced=True,
            tooltip="The first latent frame holds one picture, all others four. Some models "
            "flicker without it. `automatic`: as trained. `sink`: kept for ever. `leave`: dropped "
            "like others. `re-encode`: the oldest picture of a `rebuilt window` is encoded as a "
            "first one (Krea); needs a VAE. Not used by `full` or with sink_frames of 1 or more.",
        ),
        io.Vae.Input(
            "vae",
            optional=True,
            advanced=True,
            tooltip="For `first_latent` re-encode: the VAE of the model's family.",
        ),
    ]


def _past() -> list[io.Input]:
    return [
        io.Int.Input(
            "recall_frames",
            default=FROM_MODEL_NUMBER,
            min=FROM_MODEL_NUMBER,
            max=4094,
            optional=True,
            advanced=True,
            tooltip="For `recall` policies: latent frames of the window that are fetched from the "
            "past before each chunk, one run of neighbours, 0 to 4094. The rest of the window is "
            "the newest. -1: three sevenths of the window, 9 of 21.",
        ),
        io.Int.Input(
            "archive_frames",
            default=0,
            min=0,
            max=1_000_000,
            optional=True,
            advanced=True,
            tooltip="For `recall` policies: newest latent frames that are kept in main memory "
            "after they left the window, 0 to 1000000 (0: the model's own number, 600 for the "
            "demo, else all). The sampler shows their size; `storage` int8 halves it.",
        ),
    ]
