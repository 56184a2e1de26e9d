"""Tells from a weights file's header what the model is: architecture, family, copy to take.

Every conclusion comes with its reason in `reasons`. A file that cannot be run is refused with a
sentence that says what to do instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import BadInput
from ..action_sizes import action_sizes
from ..config import (
    COARSE_TENSOR,
    FLOW_MAP_TENSOR,
    PATCH,
    VOICE_TENSOR,
    DiTConfig,
    camera_of,
    state_of,
)
from ..files.header import Header, TensorInfo
from .adapters import Adapters, with_alpha, without_adapters
from .architecture import OtherInputs, architecture
from .depth import block_count, check_depth
from .family import Family
from .file_name import family_by_name
from .folder import declared_classes, plain_name
from .names import Copy, copies, without_twin
from .others import Refused, other
from .quantised import Quantisation, quantised_layers
from .stated import note, transformer_config, unscale
from .table import BY_KEY, FAMILIES, TWIN
from .tensors import QUANTISED, expected_shapes, with_patches, wrong

AUTO, EMA, RAW = "auto", "ema", "raw"
ASSUMED = "family: assumed"  # how the reason begins where neither file nor name says a family
HEAD_DIM = 128  # of every Wan model; a smaller one says its number of heads in its header
NOTED_FPS = "fps"
WITH_CLIP = ("i2v", "i2v-fun-camera")
UNMODIFIED = "use the unmodified file"
FLASHVSR = re.compile(r"flash_?vsr|streaming_dmd")
FPS = ("16", "24")  # that SkyReels' embedding of the frame rate knows


@dataclass(frozen=True, slots=True)
class Recognition:
    """A model that can be run: family, sizes, the copy to take, reasons, quantised layers.

    `twin` holds the weights that make the commits, under the official names, where a file has any;
    `adapters` the LoRAs that add to the copy's weights.
    """

    family: Family
    config: DiTConfig
    copy: Copy
    header: Header
    reasons: tuple[str, ...]
    unused: tuple[str, ...]
    quantised: Quantisation = Quantisation({})
    twin: Copy | None = None
    adapters: Adapters = Adapters()

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """The copy's tensors by official name, without those of a twin."""
        return {name: self.header.tensors[stored] for name, stored in self.copy.names.items()}

    @property
    def twin_model(self) -> Recognition | None:
        """The model that makes the commits, as one of its own."""
        if self.twin is None:
            return None
        quantised = quantised_layers(self.header, self.twin)
        return replace(
            self, copy=self.twin, twin=None, unused=(), quantised=quantised, adapters=Adapters()
        )


def recognise(header: Header, family: str = AUTO, copy: str = AUTO) -> Recognition:
    """Recognise a file; `family` and `copy` (ema or raw) override the conclusions."""
    header = with_patches(header)
    candidates = copies(header.tensors)
    if not candidates:
        raise _not_a_model(header)
    config_json = transformer_config(header)
    plain, adapters = without_adapters(candidates[0])
    own, twin = without_twin(plain)
    first = {name: header.tensors[stored].shape for name, stored in own.names.items()}
    kind = other(plain.names)
    if kind is not None:
        raise Refused(header.path, f"is {kind.title}", kind.remedy, ":")
    config, shape = _describe(header.path, first, config_json)
    check_depth(header.path, config, config_json)
    shape = TWIN if shape == "t2v" and twin is not None else shape
    row, why = _family(header, shape, config, config_json, family, adapted=bool(adapters.factors))
    row = row if config.state == "none" else row.with_state()
    picked, which = _pick(header.path, candidates, copy, row)
    plain, adapters = without_adapters(picked)
    adapters = with_alpha(adapters, row.adapter_alpha, header, plain.names)
    model_copy, twin = without_twin(plain)
    unused = _check(header, model_copy, config, shape)
    if twin is not None:
        _check(header, twin, config, shape)
    quantised = quantised_layers(header, model_copy)
    said = tuple(filter(None, (_why_shape(shape, config), why, which, adapters.reason)))
    return Recognition(row, config, model_copy, header, said, unused, quantised, twin, adapters)


def _describe(
    path: Path, shapes: Mapping[str, tuple[int, ...]], transformer: Mapping[str, Any]
) -> tuple[DiTConfig, str]:
    """The sizes and the architecture that the tensors show, or a refusal."""
    try:
        return _config(shapes, transformer), architecture(shapes)
    except OtherInputs as error:
        raise Refused(
            path,
            f"is a Wan model of another kind, such as Fun-Control ({error})",
            "its extra inputs are not supported: use a text-to-video or image-to-video model",
        ) from error
    except (BadInput, KeyError, ValueError, IndexError, TypeError, OverflowError) as error:
        missing = isinstance(error, KeyError)
        reason = f"it has no {error.args[0]}" if missing else str(error).removesuffix(".")
        finding = f"does not describe a Wan-family model ({reason})"
        raise Refused(path, finding, UNMODIFIED) from error


def _config(shapes: Mapping[str, tuple[int, ...]], transformer: Mapping[str, Any]) -> DiTConfig:
    dim, action = shapes["head.modulation"][-1], action_sizes(shapes)
    if dim % HEAD_DIM and "num_heads" not in transformer:
        raise ValueError(f"its {dim} channels are no heads of {HEAD_DIM}, and its header has none")
    return DiTConfig(
        dim=dim,
        ffn_dim=shapes["blocks.0.ffn.0.bias"][0],
        num_heads=int(transformer.get("num_heads", dim // HEAD_DIM)),
        num_layers=block_count(shapes),
        text_dim=0 if action else shapes["text_embedding.0.weight"][1],
        in_channels=shapes["patch_embedding.weight"][1],
        out_channels=shapes["head.head.bias"][0] // PATCH**2,
        camera=camera_of(shapes),
        action=action,
        state=state_of(shapes),
        voice=VOICE_TENSOR in shapes,
        flow_map=FLOW_MAP_TENSOR in shapes,
        coarse_past=COARSE_TENSOR in shapes,
    )


def _family(
    header: Header, shape: str, config: DiTConfig, transformer: Mapping[str, Any], choice: str,
    *, adapted: bool,
) -> tuple[Family, str]:  # fmt: skip
    """The family's row, with the reason; `adapted` files hold a LoRA beside their weights."""
    if choice != AUTO:
        if choice not in BY_KEY or BY_KEY[choice].shape != shape:
            keys = ", ".join(row.key for row in FAMILIES if row.shape == shape)
            finding = f"cannot be {choice!r}: its tensors are those of {shape}"
            raise Refused(header.path, finding, f"choose auto or one of {keys}")
        return BY_KEY[choice], "family: as chosen"
    noted = note(header)
    row = BY_KEY.get(str(noted.get("family")))
    if row is not None and row.shape == shape:
        return _at_noted_rate(row, noted), "family: its metadata says so"
    if transformer.get("causal_ar") and config.text_dim == 64:
        return BY_KEY["demo"], "family: its header is the demo's"
    named = family_by_name(header.path, shape, config.dim)
    if named is not None:
        return named
    if shape == "t2v":
        _refuse_flashvsr(header.path)
        declared = _by_class(header.path)
        if declared is not None:
            return declared
        if transformer.get("causal_ar"):
            return BY_KEY["causal-ar"], "family: its header says causal, not which kind"
        return BY_KEY["wan21-t2v"], f"{ASSUMED}, since nothing in file or name says causal"
    rows = [row for row in FAMILIES if row.shape == shape]
    *others, row = [row for row in rows if bool(row.adapter_alpha) == adapted] or rows
    by = f"{ASSUMED}, since its name says nothing else" if others else "family: by its tensors"
    return row, by


def _refuse_flashvsr(path: Path) -> None:
    """Refuse FlashVSR's transformer, which only its name tells from a plain Wan 2.1."""
    if FLASHVSR.search(plain_name(path)):
        remedy = "choose it in the loader of FlashVSR, or choose a family here"
        raise Refused(path, "is FlashVSR by its name, which makes frames larger", remedy)


def _by_class(path: Path) -> tuple[Family, str] | None:
    """The row of a text-to-video model that diffusers' files beside it declare."""
    model, pipeline = declared_classes(path)
    if "DiffusionForcing" in pipeline:
        return BY_KEY["skyreels-df"], f"family: model_index.json says {pipeline}"
    if model.startswith("SkyReelsV2") and not pipeline:
        return BY_KEY["skyreels-df"], f"family: config.json says {model}, assumed to be the DF one"
    if model.startswith("CausalWan"):
        return BY_KEY["causal-ar"], f"family: config.json says {model}, not which kind"
    return None


def _pick(path: Path, candidates: list[Copy], choice: str, row: Family) -> tuple[Copy, str]:
    """The copy to take of several, with the reason; a refusal where two could be meant."""
    if len(candidates) == 1:
        prefix = candidates[0].prefix
        return candidates[0], f"copy: the only one, at {prefix!r}" if prefix else ""
    want = row.copy if choice == AUTO else choice
    chosen = [copy for copy in candidates if copy.is_ema == (want == EMA)]
    if len(chosen) != 1:
        prefixes = " and ".join(repr(copy.prefix) for copy in chosen or candidates)
        finding = f"holds {len(chosen or candidates)} models, and nothing says which to take"
        raise Refused(path, f"{finding} ({prefixes})", "save yours in a file of its own")
    others = ", ".join(repr(copy.prefix) for copy in candidates if copy is not chosen[0])
    return chosen[0], f"copy: {want}, at {chosen[0].prefix!r} (also there: {others})"


def _check(header: Header, model_copy: Copy, config: DiTConfig, shape: str) -> tuple[str, ...]:
    """Refuse a copy that is not whole or ambiguous; the names that the model has no use for."""
    if model_copy.doubled:
        raise Refused(header.path, f"holds a tensor twice: {model_copy.doubled}", UNMODIFIED)
    tensors = {name: header.tensors[stored] for name, stored in model_copy.names.items()}
    needed = expected_shapes(config, image=shape in WITH_CLIP, fps=shape == "t2v-fps")
    problem = wrong(tensors, needed)
    if problem:
        finding = f"is no whole {config.num_layers}-layer Wan model: {problem}"
        raise Refused(header.path, finding, UNMODIFIED)
    bare = unscale({name: info.dtype for name, info in tensors.items()}, needed)
    if bare:
        raise BadInput(
            f"{header.path} holds {bare} as {tensors[bare].dtype} without its scale; use a file "
            "with all scales, or an fp16 or bf16 one."
        )
    known = {*needed, "img_emb.emb_pos"}
    return tuple(name for name in tensors if name not in known and not _is_scale(name, needed))


def _is_scale(name: str, needed: Mapping[str, object]) -> bool:
    """Whether a tensor belongs to a quantised layer of the model, or marks the whole file."""
    layer, _, end = name.rpartition(".")
    return end in QUANTISED and (not layer or f"{layer}.weight" in needed)


def _why_shape(shape: str, config: DiTConfig) -> str:
    return (
        f"architecture: {shape}, since it takes {config.in_channels} channels and gives "
        f"{config.out_channels}"
        + (", with CLIP image layers" if shape in WITH_CLIP else "")
        + (", with an fps embedding" if shape == "t2v-fps" else "")
        + (", with a twin of every weight" if shape == TWIN else "")
        + (", with an embedding of each step's end" if config.flow_map else "")
        + (", with coarse patches for an older past" if config.coarse_past else "")
    )


def _at_noted_rate(row: Family, noted: Mapping[str, Any]) -> Family:
    """The row at the frame rate that was folded into the weights, if one was."""
    fps = str(noted.get(NOTED_FPS))
    return replace(row, preset=replace(row.preset, fps=float(fps))) if fps in FPS else row


def _not_a_model(header: Header) -> Refused:
    kind = other(header.tensors)
    if kind is not None:
        return Refused(header.path, f"is {kind.title}", kind.remedy, ":")
    examples = ", ".join(list(header.tensors)[:3]) or "none"
    finding = f"is no Wan-family model (its tensors: {examples})"
    return Refused(header.path, finding, "choose a Wan 2.1 or a causal Wan file")
