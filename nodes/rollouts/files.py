"""Save Rollout and Load Rollout: a shot as one file, to continue later or elsewhere."""

from __future__ import annotations

import io as streams
import time
from dataclasses import replace
from itertools import islice
from typing import Any

from comfy_api.latest import io
from PIL import Image

from ...model.vae.latent_format import FORMATS, frame_count
from ...samplers.feature_caching import Evaluations
from ...samplers.guidance import cfg
from ...samplers.loop import Chunk
from ...stream.journal.chain import spans
from ...stream.lazy.frame_chunk import to_pictures
from ...stream.metrics import Meter, Report
from ...stream.rollout.spec import Prompter
from ...stream.rollout_file.file import (
    CFG,
    SCALED,
    SUFFIX,
    RolloutExtras,
    RolloutFile,
    save_rollout,
)
from ...units import byte_size, count_of
from .. import categories, host, sockets
from ..conditioning.prompts import CLIPPrompter
from ..frames.decoded import open_frames
from ..frames.vae import VAE_TIP
from ..models.streaming_vae import StreamingVAE, check_belongs, streaming_vae
from ..runtime.host_rollout import HostRollout, Provenance, host_spec, open_rollout
from ..runtime.report import run_report
from ..runtime.resolved_model import ResolvedModel
from ..runtime.session import session
from ..schema import build
from ..validation import check_name, refuses
from .compatibility import check_compatible, describe_other_model
from .derive import announce_rollout

NO_STATE = (
    "The KV cache is not in the file, because nothing was made and none is in memory; continuing "
    "re-reads the shot."
)
THUMBNAIL_WIDTH = 256


@refuses(check_name)
class SaveRollout(io.ComfyNode):
    """ROLLOUT to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSaveRollout",
            display_name="Save Rollout",
            category=categories.ROLLOUT,
            description="Saves the whole shot as one file: settings, prompts, live edits, latents, "
            "report and a small picture, without model weights. Load Rollout continues it with the "
            "same bits, also on another machine.",
            search_aliases=["save state", "export latents", "share shot", "checkpoint"],
            is_output_node=True,
            not_idempotent=True,  # else the core takes one's result for that of another alike
            inputs=[
                sockets.Rollout.Input(
                    "rollout", tooltip="The shot to save; it is made to its end first."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="longtake/rollout",
                    tooltip="File name in the output folder, with subfolders; a number is added. "
                    "Tokens are replaced as in Save Video: `%date:yyyy-MM-dd%`, `%width%`. "
                    "Load Rollout lists files in longtake/ and in the output folder itself.",
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip=f"For the small picture in the file. {VAE_TIP}"
                ),
                io.Boolean.Input(
                    "with_state",
                    default=False,
                    optional=True,
                    advanced=True,
                    display_name="with KV cache",
                    tooltip="On: also saves the KV cache. Continuing then starts at once, with the "
                    "same bits; the file grows by at most the cache size in the sampler's plan.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(
        cls,
        rollout: HostRollout,
        filename_prefix: str,
        vae: Any = None,
        with_state: bool = False,
    ) -> io.NodeOutput:
        """Take the stream to its end, then write its chunks from the journal."""
        decoding = None if vae is None else streaming_vae(vae)
        if decoding is not None:
            check_belongs(decoding, rollout.claim.model, rollout.model.config.out_channels)
        if rollout.plan_only:
            host.show_status(
                cls.hidden.unique_id, f"Dry run, nothing is saved: {rollout.plan.text}"
            )
            return io.NodeOutput()
        with rollout.spec.journal.reading(rollout.spec.id):
            return await cls._save(rollout, filename_prefix, decoding, with_state=with_state)

    @classmethod
    async def _save(
        cls,
        rollout: HostRollout,
        filename_prefix: str,
        decoding: StreamingVAE | None,
        *,
        with_state: bool,
    ) -> io.NodeOutput:
        progress = host.Progress(cls.hidden.unique_id, rollout.chunk_count or 0)
        count, picture, state = 0, None, None
        evaluations = Evaluations()
        meter = Meter(clock=rollout.controls.clock)
        with rollout.chunks.subscribe() as reader:
            async for chunk in reader:
                if chunk.index == 0 and decoding is not None:
                    picture = thumbnail(rollout, chunk, decoding)
                frames, latent_frames = _lengths(chunk)
                meter.chunk_done(frames=frames, latent_frames=latent_frames)
                evaluations += chunk.evaluations
                count = chunk.index + 1
                progress.advance(count)
            if with_state and count:
                state = rollout.run.state_after(count)
        control = rollout.settings.control
        sources = [*rollout.settings.known_frames.sources, *(control.sources if control else [])]
        rollout.claim.claim_sources(sources)
        name = host.output_files(filename_prefix, SUFFIX, _picture_size(rollout))
        file = host.claim_file(name)
        report = _report(rollout, meter, evaluations, str(file.path))
        extras = RolloutExtras(report, picture, _guidance_of(rollout), rollout.fps, state)
        try:
            written = save_rollout(file.path, rollout.run.state, count, extras)
        finally:
            host.remove_empty(file)
        lacks = " " + NO_STATE if with_state and state is None else ""
        host.show_status(
            cls.hidden.unique_id,
            f"{file.name}: {count_of(count, 'chunk')}, {byte_size(written)}.{lacks}",
        )
        entry = {"role": "rollout", "filename": file.name, "subfolder": file.subfolder,
                 "type": "output"}  # fmt: skip
        return io.NodeOutput(ui={"longtake_files": [entry]})


class LoadRollout(io.ComfyNode):
    """A file to ROLLOUT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeLoadRollout",
            display_name="Load Rollout",
            category=categories.ROLLOUT,
            description="Loads a shot from Save Rollout, to watch, fork, rewind or continue it. "
            "Nothing is made again.",
            search_aliases=["load state", "import latents", "resume", "open shot"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=host.saved_files(SUFFIX),
                    tooltip=f"A file *{SUFFIX} in ComfyUI's output or input folder, or in their "
                    "longtake/ folders. Press R to list new files.",
                ),
                io.Model.Input(
                    "model",
                    tooltip="The model to continue with: the one that made the shot, with the same "
                    "LoRA. Another model also works and gives a warning.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The text encoder, for new prompts in a fork or in the preview.",
                ),
            ],
            outputs=[sockets.Rollout.Output(display_name="rollout")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, file: str, model: Any, clip: Any = None) -> io.NodeOutput:
        """Read the settings and put the chunks into the journal."""
        saved = RolloutFile(host.saved_file(file))
        prompter = None if clip is None else CLIPPrompter(clip)
        rollout = resume_from_file(saved, model, prompter, cls.hidden.unique_id)
        new = saved.keep_in(rollout.spec.journal, rollout.spec.chain)
        announce_rollout(rollout)
        text = f"Loaded {count_of(len(saved.metas), 'chunk')}, {new} of them new on this machine."
        host.show_status(cls.hidden.unique_id, text)
        return io.NodeOutput(rollout)

    @classmethod
    def fingerprint_inputs(cls, file: str | None, **others: Any) -> Any:
        """Change with the file, after a stop and after a live edit; always where no file is known.

        The core gives None where another node names the file.
        """
        if file is None:
            return time.monotonic()
        return *host.saved_stamp(file), session.times_altered(cls.hidden.unique_id)


KEEPS_SETTINGS = (
    "a loaded shot keeps its settings: continue it where there is more memory, or make a new one: "
)
OTHER_ATTENTION = (
    "ANN-Sparse Attention on this model has no effect: a loaded shot keeps its own attention."
)


def resume_from_file(
    file: RolloutFile, model: Any, prompter: Prompter | None, node_id: str | None
) -> HostRollout:
    """Return the rollout of a file, at its saved length, to continue with `model`."""
    resolved = ResolvedModel.of(model)
    settings = file.settings(resolved.engine.device)
    check_compatible(settings, file.channels, resolved.engine)
    guided = cfg if file.extras.guided == CFG else settings.guidance.scale_by
    count = len(file.metas)
    end = sum(span.count for span in islice(spans(settings), count))
    if file.models.at(end) != resolved.identity:
        host.warn(node_id, describe_other_model(model, file.models.at(end)))
    if resolved.attention is not None and not resolved.attention.matches(settings):
        host.warn(node_id, OTHER_ATTENTION)
    spec = host_spec(resolved, settings, file.models.then(end, resolved.identity))
    spec = replace(spec, prompter=prompter, guided=guided, cut=count)
    provenance = Provenance(node_id, resolved.session_only)
    return open_rollout(spec, resolved.engine.host, provenance, remedy_prefix=KEEPS_SETTINGS)


def thumbnail(rollout: HostRollout, chunk: Chunk, vae: StreamingVAE) -> bytes:
    """Return the last frame of the first chunk as a small PNG."""
    decoder = open_frames(rollout, vae, rollout.fps).open_decoder()
    [picture] = to_pictures(decoder.feed(chunk.latents)[-1:])
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL_WIDTH, THUMBNAIL_WIDTH))
    content = streams.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def _lengths(chunk: Chunk) -> tuple[int, int]:
    """Return the frames and the latent frames of a chunk."""
    first, count = chunk.first_frame, len(chunk.latents)
    return frame_count(first + count) - frame_count(first), count


def _picture_size(rollout: HostRollout) -> tuple[int, int]:
    """Return width and height in pixels."""
    factor = FORMATS[rollout.model.config.out_channels].spatial_factor
    return rollout.settings.columns * factor, rollout.settings.rows * factor


def _report(rollout: HostRollout, meter: Meter, evaluations: Evaluations, path: str) -> Report:
    """Report the chunks of the run, live edits included, for the file at `path`."""
    size = _picture_size(rollout)
    report = run_report(rollout, meter, fps=rollout.fps, size=size, evaluations=evaluations)
    return replace(report, rollout_id=rollout.run.state.chain.id, output_files=[path])


def _guidance_of(rollout: HostRollout) -> str:
    """Name how a strength becomes the guidance of this rollout."""
    return CFG if rollout.spec.guided is cfg else SCALED
