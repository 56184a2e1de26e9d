"""Loads weights strictly: exactly the right tensors, or one clear refusal.

`open_checkpoint` reads a diffusion model in any container that `files` knows and under any names
that `families` knows. The demo's VAE and text encoder are safetensors files of our own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from ..errors import BadInput
from .config import DiTConfig
from .dit import WanDiT
from .families.depth import DEPTH, is_usual
from .families.quantised import FP8_ROWS, PLAIN_SCALES, check_mark
from .families.recognise import AUTO, HEAD_DIM, Recognition, recognise
from .families.stated import QUANTISATION, SCALES, quantisation, transformer_config
from .families.table import TWIN
from .families.tensors import PATCHES, QUANTISED
from .files.header import TensorInfo
from .files.mismatch import mismatch
from .files.number_checks import check_numbers, check_scale
from .files.safetensors_file import open_mapped
from .files.skip_init import SkipInit
from .files.weights import Weights, open_weights
from .host_layers import HostLayers, HostTensor, host_layers
from .text import TextEncoder
from .vae.tiny import TinyVAE, TinyVAEConfig

TEXT_TO_VIDEO = ("t2v", "t2v-fps", TWIN)
WAN_TEXT_DIM = 4096
FPS = ("fps_embedding.", "fps_projection.")
HEADLESS = (*PLAIN_SCALES, FP8_ROWS)  # formats of layers that run without ComfyUI


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors as stored and the header metadata of a safetensors file."""
    if not path.is_file():
        raise BadInput(f"{path} is not there; give the path of a .safetensors file.")
    try:
        with open_mapped(path) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except SafetensorError as error:
        raise BadInput(
            f"{path} cannot be read as safetensors ({error}); it may be cut short: "
            "download it again."
        ) from error


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A recognised model file whose tensors are read on demand."""

    recognition: Recognition
    weights: Weights

    def read(self, name: str) -> Tensor:
        """One tensor by its official name; as stored, a matrix reshaped, or with its adapter."""
        tensor = self.weights.read(self.recognition.copy.names[name])
        check_scale(name, tensor, self.recognition.header.path)  # a computed layer has none
        check_mark(name, tensor, self.recognition.header.path)
        tensor = self.recognition.adapters.add(name, tensor, self.weights.read)
        return tensor.reshape(self.recognition.tensors[name].shape) if name == PATCHES else tensor

    def infos(self) -> dict[str, TensorInfo]:
        """All tensors for the host's Wan model by official name, quantisation scales included."""
        unused, layers = set(self.recognition.unused), self.host_layers
        stored = self.recognition.tensors
        plain = {
            name: info
            for name, info in stored.items()
            if name not in unused | layers.dropped and not name.startswith(FPS)
        }
        return plain | {n: self._computed_info(n, tensor) for n, tensor in layers.tensors.items()}

    def _computed_info(self, name: str, tensor: HostTensor) -> TensorInfo:
        source = self.recognition.tensors[tensor.sources[0]]
        shape = () if tensor.is_number else source.shape
        return replace(source, name=name, dtype=tensor.dtype, shape=shape)

    @property
    def host_layers(self) -> HostLayers:
        """What takes the place of quantised layers that the host would not know."""
        return host_layers(self.recognition.quantised, self.recognition.tensors)

    @property
    def twin(self) -> Checkpoint | None:
        """The weights of the same file that make the commits, if it has any."""
        model = self.recognition.twin_model
        return None if model is None else replace(self, recognition=model)

    def at_rate(self, fps: float | None) -> Checkpoint:
        """The same checkpoint for `fps` frames a second (16 or 24; None is its own).

        Only models that take a frame rate allow this.
        """
        family = self.recognition.family
        if fps is None or family.shape != "t2v-fps":
            return self
        with_fps = replace(family, preset=replace(family.preset, fps=fps))
        return replace(self, recognition=replace(self.recognition, family=with_fps))

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors one after another.

        SkyReels' embedding of the frame rate is a constant added to the time projection, so it is
        folded into that bias.
        """
        computed = self.host_layers.tensors
        for name in self.infos():
            rewritten = computed.get(name)
            if rewritten is None:
                tensor = self.read(name)
            else:
                tensor = rewritten.compute(*map(self.read, rewritten.sources))
            if name == "time_projection.1.bias" and self.recognition.family.shape == "t2v-fps":
                shift = self._fps_shift(self.recognition.family.preset.fps)
                tensor = (tensor.float() + shift).to(tensor.dtype)
            yield name, tensor

    def state(self) -> dict[str, Tensor]:
        """All of `tensors` in one mapping."""
        return dict(self.tensors())

    def metadata(self) -> dict[str, str]:
        """The header that the host's loader reads: causal or not, odd sizes, quantised layers."""
        transformer = dict(transformer_config(self.recognition.header))
        transformer.pop("causal_ar", None)
        config = self.recognition.config
        if config.text_dim != WAN_TEXT_DIM:
            transformer["text_dim"] = config.text_dim
        if config.head_dim != HEAD_DIM:
            transformer["num_heads"] = config.num_heads
        if not is_usual(config):
            transformer[DEPTH] = config.num_layers
        if self.recognition.family.causal and self.recognition.family.shape in TEXT_TO_VIDEO:
            transformer["causal_ar"] = True
        entries = {"config": json.dumps({"transformer": transformer})} if transformer else {}
        quantised = quantisation(self.recognition.header)
        layers = self._listed_layers(quantised)
        listed = {QUANTISATION: json.dumps({**quantised, "layers": layers})} if layers else {}
        return entries | listed

    def _listed_layers(self, quantised: dict[str, Any]) -> dict[str, Any]:
        """The host's list of quantised layers by official names, unmarked ones included."""
        official = {stored: name for name, stored in self.recognition.copy.names.items()}
        layers = {
            official.get(f"{layer}.weight", f"{layer}.weight").removesuffix(".weight"): form
            for layer, form in quantised.get("layers", {}).items()
        }
        formats = self.recognition.quantised.formats
        unmarked = {n: formats[n] for n in sorted(self.recognition.quantised.unmarked)}
        return layers | {n: {"format": form} for n, form in unmarked.items() if form != FP8_ROWS}

    def _fps_shift(self, fps: float) -> Tensor:
        """SkyReels-V2 `modules/transformer.py`: index 0 is 16 fps, 1 is 24; two linear layers."""

        def linear(name: str, x: Tensor) -> Tensor:
            weight, bias = self.read(f"{name}.weight"), self.read(f"{name}.bias")
            return functional.linear(x, weight.float(), bias.float())

        row = self.read("fps_embedding.weight")[0 if fps == 16 else 1].float()
        return linear("fps_projection.2", functional.silu(linear("fps_projection.0", row)))


def open_checkpoint(path: Path, family: str = AUTO, copy: str = AUTO) -> Checkpoint:
    """Recognise a model file without reading its weights."""
    weights = open_weights(path)
    return Checkpoint(recognise(weights.header, family, copy), weights)


def load_dit(path: Path) -> WanDiT:
    """A Wan-family DiT in float32, ready to evaluate; text to video only."""
    checkpoint = open_checkpoint(path)
    recognition = checkpoint.recognition
    runs_here = recognition.family.shape.startswith(("t2v", "ti2v"))
    if not runs_here or recognition.header.container == "GGUF":
        raise BadInput(
            f"{path} is {recognition.family.title}, which needs ComfyUI; without it, use a "
            "text-to-video model that is not quantised."
        )
    packed = [n for n, f in recognition.quantised.formats.items() if f not in HEADLESS]
    if packed:
        raise BadInput(
            f"{path} is quantised in a way that needs ComfyUI ({packed[0]}: "
            f"{recognition.quantised.formats[packed[0]]}); use an fp16, bf16 or scaled fp8 file."
        )
    if recognition.twin is not None:
        raise BadInput(
            f"{path} holds two sets of weights; load it in ComfyUI, where both are kept."
        )
    if recognition.unused:
        raise BadInput(
            f"{path} holds {recognition.unused[0]}, which no model of this kind has; use the "
            "unmodified file."
        )
    return build_dit(checkpoint.state(), recognition.config, path)


def build_dit(state: Mapping[str, Tensor], config: DiTConfig, path: Path) -> WanDiT:
    """Build our own module tree with the weights `state`, in float32; errors name `path`."""
    plain = dequantise(state, path)
    check_numbers(plain, path)
    with SkipInit():
        dit = WanDiT(config)
    load_exactly(dit, plain, path)
    return dit


def dequantise(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Unpack scaled fp8 weights; other packed formats need the host."""
    packed = [name for name in state if name.endswith(".comfy_quant")]
    if packed:
        raise BadInput(
            f"{path} is quantised in a way that needs ComfyUI ({packed[0]}); use an fp16, bf16 or "
            "scaled fp8 file."
        )
    scales = {n.rpartition(".")[0]: s for n, s in state.items() if n.endswith(SCALES)}
    plain = {n: t for n, t in state.items() if n.rpartition(".")[2] not in QUANTISED}
    for name in (f"{layer}.weight" for layer in scales):
        if name in plain:
            plain[name] = _unpack(plain[name], scales[name.removesuffix(".weight")], name, path)
    return plain


def _unpack(weight: Tensor, scale: Tensor, name: str, path: Path) -> Tensor:
    """A weight by its one scale, or by a scale for each row."""
    if weight.dtype == torch.uint8 or scale.numel() not in (1, len(weight)):
        raise BadInput(
            f"{path} holds {name} in a packing that Longtake cannot unpack; use an fp16, bf16 or "
            "scaled fp8 file."
        )
    return weight.float() * scale.float().reshape(-1, *[1] * (weight.ndim - 1))


def load_tiny_vae(path: Path) -> TinyVAE:
    """Load the demo's VAE in float32; its widths come from the tensors."""
    state, _ = read(path)
    try:
        e = (state["encoder.0.weight"], state["encoder.2.weight"], state["encoder.6.weight"])
        d = (state["decoder.10.weight"], state["decoder.5.weight"], state["decoder.0.weight"])
    except KeyError as error:
        raise BadInput(
            f"{path} is not the demo's VAE (it has no {error.args[0]}); "
            "choose model/demo/vae.safetensors."
        ) from error
    config = TinyVAEConfig((len(e[0]), len(e[1]), len(e[2])), (len(d[0]), len(d[1]), len(d[2])))
    with SkipInit():
        vae = TinyVAE(config)
    load_exactly(vae, state, path)
    return vae


def load_text_encoder(path: Path) -> TextEncoder:
    """The demo's text encoder; vocabulary and text length come from the file's header."""
    state, metadata = read(path)
    if "vocabulary" not in metadata or "words.weight" not in state:
        raise BadInput(
            f"{path} is not the demo's text encoder; choose model/demo/text.safetensors."
        )
    try:
        words, text_len = json.loads(metadata["vocabulary"]), int(metadata["text_len"])
    except (ValueError, KeyError) as error:
        raise BadInput(
            f"{path} has an unreadable header ({error}); "
            "use the unmodified model/demo/text.safetensors."
        ) from error
    encoder = TextEncoder(words, state["words.weight"].shape[1], text_len)
    load_exactly(encoder, state, path)
    return encoder


def load_exactly(
    module: nn.Module,
    state: Mapping[str, Tensor],
    path: Path,
    stored: Callable[[str], str] = str,
) -> None:
    """Put weights into a module, ready to evaluate; BadInput unless they are just its own.

    `stored` gives the file's name of a tensor of the module, where that is another one.
    """
    problem = mismatch(module.state_dict(), state, stored)
    if problem:
        raise BadInput(
            f"{path} does not fit the model that its other tensors describe: {problem}; download "
            "the unmodified file."
        )
    module.load_state_dict(state, strict=True)
    module.eval().requires_grad_(False)
