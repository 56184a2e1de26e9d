"""KV Cache Settings: how much past the model sees, and how it is kept."""

from __future__ import annotations

from collections.abc import Callable
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
from .. import categories, host, sockets
from ..runtime.host_codec import host_codec
from ..schema import build
from .cache_spec import POLICIES, KVCacheSpec

AS_COMPUTED = "as computed"
CODECS = {"fp8": FLOAT8, "int8": INT8, "int4": INT4}
ON_THE_DEVICE, MAIN_MEMORY, DISK = "device", "main memory", "disk"
PLACES: dict[str, Callable[[], Placement]] = {
    ON_THE_DEVICE: lambda: ON_DEVICE,
    MAIN_MEMORY: InMainMemory,
    DISK: lambda: OnDisk(host.temp_folder() / "longtake_kv"),
}


class KVCacheSettings(io.ComfyNode):
    """How many finished latent frames the model may look back at, and how they are kept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeKVCacheSettings",
            display_name="KV Cache Settings",
            category=categories.SAMPLE,
            description="How much of the past the model sees, and how it is kept. A longer window "
            "remembers more and costs memory and time; the sampler says how much.",
            search_aliases=["window", "sink", "context length", "memory", "int8", "offload"],
            inputs=[*_what(), *_how(), *_when()],
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
    ) -> io.NodeOutput:
        """The cache settings, as far as they are asked for."""
        settings = partial(
            CacheSettings,
            storage=_storage(storage, unquantised_frames),
            placement=PLACES[placement](),
            on_prompt_change=prompt_switch,
            first_latent=first_latent,
            budget_bytes=int(budget_gb * 2**30) or None,
            codec=None if vae is None or first_latent != "re-encode" else host_codec(vae),
        )
        sink = None if sink_frames < 0 else sink_frames
        return io.NodeOutput(KVCacheSpec(settings, policy, window_frames or None, sink))


def _storage(name: str, unquantised_frames: int) -> Storage:
    return DENSE if name == AS_COMPUTED else Packed(CODECS[name], unquantised_frames)


def _what() -> list[io.Input]:
    """What is kept."""
    return [
        io.Combo.Input(
            "policy",
            options=[FROM_MODEL, *POLICIES],
            default=FROM_MODEL,
            tooltip="`from model`: as it was trained. `window + sink` keeps memory constant "
            "however long the shot; `full` keeps every latent frame and grows with the length: "
            "only for short shots. `window + EMA sink` averages what leaves the window into the "
            "sink (Reward Forcing; 3 latent frames if sink_frames is 0). "
            "`rebuilt window` makes the window anew from clean latents before each chunk (Krea): "
            "no error is carried on, at the cost of a pass. `most attended` keeps the latent "
            "frames that were looked at most, the same for all heads or each head its own. "
            "`window + memory bank` adds in every layer three from all of the past, the ones most "
            "like the prompt (MemFlow).",
        ),
        io.Int.Input(
            "window_frames",
            default=0,
            min=0,
            max=4096,
            tooltip="Latent frames kept, 1 to 4096, sink included (one is 4 frames of video); 0 is "
            "from the model. Raise it for models that remember far back; lower it for speed and "
            "memory. The demo model has 21 and gains nothing above. Not used by `full`.",
        ),
        io.Int.Input(
            "sink_frames",
            default=-1,
            min=-1,
            max=4095,
            tooltip="How many of the very first latent frames are never dropped, 0 to 4095; -1 is "
            "from the model. 1 to 3 can steady long shots of distilled models; 0 for the demo. Not "
            "used by `full`.",
        ),
    ]


def _how() -> list[io.Input]:
    """How and where it is kept."""
    return [
        io.Combo.Input(
            "storage",
            options=[AS_COMPUTED, *CODECS],
            default=AS_COMPUTED,
            optional=True,
            advanced=True,
            tooltip="How older latent frames are kept: as computed, or rounded to about a half "
            "(fp8, int8) or 0.3 (int4) of bf16's bytes, a little slower. int8 can hardly be told "
            "from the original. Not with `most attended, per head`.",
        ),
        io.Int.Input(
            "unquantised_frames",
            default=DEMO.chunk_frames,
            min=0,
            max=64,
            optional=True,
            advanced=True,
            tooltip="The newest latent frames stay as computed, 0 to 64: they matter most. One "
            "chunk is good. Used by fp8, int8 and int4 only; the sampler says the total saving.",
        ),
        io.Combo.Input(
            "placement",
            options=[ON_THE_DEVICE, MAIN_MEMORY, DISK],
            default=ON_THE_DEVICE,
            optional=True,
            advanced=True,
            tooltip="Where older latent frames lie. `device`: with the model, fastest. `main "
            "memory` frees the graphics card: each layer is fetched while the one before it runs. "
            "`disk` is for very long `full` histories: files in the temp folder, gone afterwards. "
            "The video is the same.",
        ),
        io.Float.Input(
            "budget_gb",
            default=0.0,
            min=0.0,
            max=1024.0,
            step=0.1,
            optional=True,
            advanced=True,
            tooltip="The most that the KV cache may take on the device, in GB (0 to 1024; 0 is no "
            "limit): the window is then as long as fits, at most window_frames, and the sampler "
            "says how long. `full` becomes a window where it does not fit.",
        ),
    ]


def _when() -> list[io.Input]:
    """What happens to it in mid-shot."""
    return [
        io.Combo.Input(
            "prompt_switch",
            options=["keep", "re-cache", "flush"],
            default="keep",
            optional=True,
            advanced=True,
            tooltip="What becomes of the history when the prompt changes. `keep`: it stays. "
            "`re-cache`: it is passed again with the new prompt, which takes effect sooner. "
            "`flush`: all but the sink and the newest latent frame is forgotten: a harder change.",
        ),
        io.Combo.Input(
            "first_latent",
            options=["automatic", "sink", "leave", "re-encode"],
            default="automatic",
            optional=True,
            advanced=True,
            tooltip="The first latent frame stands for one picture, all others for four; a model "
            "that never saw a history without it can flicker once it is gone. `sink` keeps it for "
            "ever, `leave` drops it in its turn, `automatic` does what the model was trained for. "
            "`re-encode`, with `rebuilt window` and a VAE: the oldest picture in the window is "
            "encoded as a first one (Krea). Not used by `full`, or where sink_frames is 1 or more.",
        ),
        io.Vae.Input(
            "vae",
            optional=True,
            tooltip="The VAE of the model's family, for `first_latent` re-encode only.",
        ),
    ]
