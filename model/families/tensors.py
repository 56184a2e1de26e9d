"""The tensors that a Wan model of given sizes must have.

Source: Wan-Video/Wan2.1 `wan/modules/model.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ..action_sizes import MODULE, ActionSizes
from ..camera.actions import MOUSE, PICTURES_READ
from ..camera.fun import CHANNELS as FUN_CHANNELS
from ..camera.plucker import BLOCK_LAYERS, RAY_FEATURES, ROOT_LAYERS
from ..camera.prope import LAYER as PROPE_LAYER
from ..config import COARSE_PATCH, FRAMES_PER_LATENT, FREQ_DIM, PATCH, DiTConfig
from ..delta import LAYERS as STATE_LAYERS
from ..files.header import OTHER_BITS, Header, TensorInfo
from ..image_embedding import CLIP_DIM
from ..voice import AUDIO_FEATURES, HIDDEN, voice_layers

Shapes = dict[str, tuple[int, ...]]
PATCHES = "patch_embedding.weight"
# What quantised files hold beside a layer's weight: scales, and the name of the format.
QUANTISED = (
    "scale_weight", "scale_input", "weight_scale", "weight_scale_2", "input_scale", "comfy_quant",
    "scaled_fp8", "pre_quant_scale", "weight_s_rel", "weight_s_channel", "weight_codebook",
    "weight_global_scale", "input_absmax", "input_global_scale", "alpha",
)  # fmt: skip
PACKED = ("U8", "I8")  # of which one may be two numbers of 4 bits


def expected_shapes(config: DiTConfig, *, image: bool = False, fps: bool = False) -> Shapes:
    """Official name to shape; `image` for the CLIP branch, `fps` for SkyReels' embedding."""
    dim = config.dim
    shapes: Shapes = {
        PATCHES: (dim, config.in_channels, 1, PATCH, PATCH),
        "patch_embedding.bias": (dim,),
        "head.modulation": (1, 2, dim),
        **_linear("head.head", dim, PATCH**2 * config.out_channels),
        **_linear("time_embedding.0", FREQ_DIM, dim),
        **_linear("time_embedding.2", dim, dim),
        **_linear("time_projection.1", dim, 6 * dim),
    }
    for layer in range(config.num_layers):
        shapes.update(_block(f"blocks.{layer}", config, image=image))
    shapes.update(_camera(config))
    shapes.update(_state(config))
    shapes.update(_voice(config))
    shapes.update(_flow_map(config))
    if config.reads_prompt:
        shapes.update(_linear("text_embedding.0", config.text_dim, dim))
        shapes.update(_linear("text_embedding.2", dim, dim))
    if image or not config.reads_prompt:
        shapes.update(_image_embedding(dim))
    if fps:
        shapes["fps_embedding.weight"] = (2, dim)
        shapes.update(_linear("fps_projection.0", dim, dim))
        shapes.update(_linear("fps_projection.2", dim, 6 * dim))
    return shapes


def _block(prefix: str, config: DiTConfig, *, image: bool) -> Shapes:
    dim = config.dim
    shapes: Shapes = {
        f"{prefix}.modulation": (1, 6, dim),
        f"{prefix}.norm3.weight": (dim,),
        f"{prefix}.norm3.bias": (dim,),
        **_linear(f"{prefix}.ffn.0", dim, config.ffn_dim),
        **_linear(f"{prefix}.ffn.2", config.ffn_dim, dim),
    }
    for attention in ("self_attn", "cross_attn"):
        for name in "qkvo":
            shapes.update(_linear(f"{prefix}.{attention}.{name}", dim, dim))
        for name in "qk":
            shapes[f"{prefix}.{attention}.norm_{name}.weight"] = (dim,)
    if image:
        for name in ("k_img", "v_img"):
            shapes.update(_linear(f"{prefix}.cross_attn.{name}", dim, dim))
        shapes[f"{prefix}.cross_attn.norm_k_img.weight"] = (dim,)
    return shapes


def _camera(config: DiTConfig) -> Shapes:
    """The layers of the module that takes a camera."""
    dim = config.dim
    if config.camera in ("action", "columns"):
        return {
            **_linear("action_embedding.0", FREQ_DIM, dim),
            **_linear("action_embedding.2", dim, dim),
            **(_columns(config) if config.camera == "columns" else {}),
        }
    shapes: Shapes = {}
    if config.camera == "prope":
        for i in range(config.num_layers):
            shapes.update(_linear(f"blocks.{i}.self_attn.{PROPE_LAYER}", dim, dim))
    if config.camera == "fun":
        shapes.update(_convolution("control_adapter.conv", FUN_CHANNELS, dim, PATCH))
        for name in ("conv1", "conv2"):
            shapes.update(_convolution(f"control_adapter.residual_blocks.0.{name}", dim, dim, 3))
    if config.camera == "plucker":
        first, *others = ROOT_LAYERS
        shapes.update(_linear(first, RAY_FEATURES, dim))
        blocks = [f"blocks.{i}.{name}" for i in range(config.num_layers) for name in BLOCK_LAYERS]
        for name in (*others, *blocks):
            shapes.update(_linear(name, dim, dim))
    if config.action is not None:
        for i in range(config.action.blocks):
            shapes.update(_action(f"blocks.{i}.{MODULE}", config.action, dim))
    return shapes


def _columns(config: DiTConfig) -> Shapes:
    """How fast columns pass, and additional turns per column of half of the heads each."""
    pairs = config.head_dim // 6
    return {"world_columns": (1,), "world_turns": (2, pairs)}


def _action(prefix: str, sizes: ActionSizes, dim: int) -> Shapes:
    """The layers for keys and a mouse of one block; those of its attentions have no bias."""
    embed, width = sizes.embed, sizes.width
    return {
        **_linear(f"{prefix}.keyboard_embed.0", sizes.keys, embed),
        **_linear(f"{prefix}.keyboard_embed.2", embed, embed),
        **_linear(f"{prefix}.mouse_mlp.0", dim + MOUSE * PICTURES_READ, width),
        **_linear(f"{prefix}.mouse_mlp.2", width, width),
        f"{prefix}.mouse_mlp.3.weight": (width,),
        f"{prefix}.mouse_mlp.3.bias": (width,),
        f"{prefix}.t_qkv.weight": (3 * width, width),
        f"{prefix}.proj_mouse.weight": (dim, width),
        f"{prefix}.mouse_attn_q.weight": (width, dim),
        f"{prefix}.keyboard_attn_kv.weight": (2 * width, embed * PICTURES_READ),
        f"{prefix}.proj_keyboard.weight": (dim, width),
    }


def _state(config: DiTConfig) -> Shapes:
    """The layers of a state beside self-attention."""
    shapes: Shapes = {}
    for i in range(config.num_layers if config.state == "delta" else 0):
        prefix = f"blocks.{i}.self_attn.{STATE_LAYERS}"
        for name in ("strength", "decay"):
            shapes.update(_linear(f"{prefix}.{name}", config.dim, config.num_heads))
        shapes.update(_linear(f"{prefix}.gate", config.dim, config.dim))
        shapes[f"{prefix}.out.weight"] = (config.dim, config.dim)
    return shapes


def _voice(config: DiTConfig) -> Shapes:
    """The layers that take a voice."""
    if not config.voice:
        return {}
    shapes: Shapes = {
        **_linear("audio_proj.proj", FRAMES_PER_LATENT * AUDIO_FEATURES, HIDDEN),
        "audio_proj.norm_out.weight": (HIDDEN,),
        "audio_proj.norm_out.bias": (HIDDEN,),
    }
    for i in range(voice_layers(config)):
        shapes.update(_linear(f"audio_cond_projs.{i}", HIDDEN, config.dim))
    return shapes


def _flow_map(config: DiTConfig) -> Shapes:
    """The embeddings of a step's end and of coarse patches."""
    dim, shapes = config.dim, Shapes()
    if config.flow_map:
        shapes.update(_linear("delta_embedding.0", FREQ_DIM, dim))
        shapes.update(_linear("delta_embedding.2", dim, dim))
    if config.coarse_past:
        patch = (1, COARSE_PATCH, COARSE_PATCH)
        shapes["far_patch_embedding.weight"] = (dim, config.in_channels, *patch)
        shapes["far_patch_embedding.bias"] = (dim,)
    return shapes


def _image_embedding(dim: int) -> Shapes:
    return {
        "img_emb.proj.0.weight": (CLIP_DIM,),
        "img_emb.proj.0.bias": (CLIP_DIM,),
        **_linear("img_emb.proj.1", CLIP_DIM, CLIP_DIM),
        **_linear("img_emb.proj.3", CLIP_DIM, dim),
        "img_emb.proj.4.weight": (dim,),
        "img_emb.proj.4.bias": (dim,),
    }


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _convolution(name: str, inputs: int, outputs: int, side: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}


def with_patches(header: Header) -> Header:
    """The header with a matrix that embeds patches as the convolution of the same numbers.

    rCM and TurboDiffusion multiply a patch, channel after channel and row after row, by a matrix
    (NVlabs/rcm `rcm/networks/wan2pt1.py`).
    """
    matrices = {
        name: replace(info, shape=(info.shape[0], info.shape[1] // PATCH**2, 1, PATCH, PATCH))
        for name, info in header.tensors.items()
        if re.search(rf"(^|\.){PATCHES}$", name)
        and len(info.shape) == 2
        and not info.shape[1] % PATCH**2
    }
    return replace(header, tensors={**header.tensors, **matrices}) if matrices else header


def wrong(tensors: Mapping[str, TensorInfo], needed: Shapes) -> str | None:
    """What is missing or misshapen, as half a sentence.

    A weight of several numbers a byte passes in any shape.
    """
    missing = [name for name in needed if name not in tensors]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"it has no {missing[0]}{more}"
    scaled = {name.rpartition(".")[0] for name in tensors if name.rpartition(".")[2] in QUANTISED}
    for name, shape in needed.items():
        info = tensors[name]
        if info.dtype in OTHER_BITS or info.dtype.islower():  # as torch names what no file here has
            return f"{name} is {info.dtype}, which no layer has"
        packed = info.dtype in PACKED and name.rpartition(".")[0] in scaled
        if info.shape != shape and not packed:
            return f"{name} is {list(info.shape)} where the other tensors ask for {list(shape)}"
    return None
