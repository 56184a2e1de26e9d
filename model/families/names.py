"""Maps a stored tensor name to the official Wan 2.1 one.

Trainers leave wrappers in names at any depth (FSDP, torch.compile, activation checkpoints, PEFT)
and put the model behind prefixes (`generator_ema.model.`, `model.diffusion_model.`); diffusers has
its own names. Prefixes are not listed: a prefix is whatever precedes a name that every Wan model
has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

MAX_COPIES = 16  # in one file; a trainer writes two or three
_WRAPPER = re.compile(
    r"(?:(?<=\.)|^)(?:_fsdp_wrapped_module|_orig_mod|_checkpoint_wrapped_module|base_layer|module)\."
)
_ANCHOR = re.compile(r"((?:.*\.)?)blocks\.0\.(self_attn\.q|attn1\.to_q)\.weight")
# Not weights of the generator: tables that are computed, and the trainers' critic branches.
_DROPPED = re.compile(
    r"freqs|rope_embedder\.|_cls_pred_branch|_register_tokens|_gan_ca_blocks|.*\.inv_freq"
)
_CRITIC = re.compile(r"critic|fake_score|real_score|discriminator|teacher")

_FROM_DIFFUSERS = tuple(
    (re.compile(pattern), official)
    for pattern, official in (
        (r"condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
        (r"condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
        (r"condition_embedder\.delta_embedder\.linear_1\.", "delta_embedding.0."),
        (r"condition_embedder\.delta_embedder\.linear_2\.", "delta_embedding.2."),
        (r"condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
        (r"condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
        (r"condition_embedder\.time_proj\.", "time_projection.1."),
        (r"condition_embedder\.image_embedder\.norm1\.", "img_emb.proj.0."),
        (r"condition_embedder\.image_embedder\.ff\.net\.0\.proj\.", "img_emb.proj.1."),
        (r"condition_embedder\.image_embedder\.ff\.net\.2\.", "img_emb.proj.3."),
        (r"condition_embedder\.image_embedder\.norm2\.", "img_emb.proj.4."),
        (r"condition_embedder\.image_embedder\.pos_embed$", "img_emb.emb_pos"),
        (r"fps_projection\.net\.0\.proj\.", "fps_projection.0."),
        (r"fps_projection\.net\.2\.", "fps_projection.2."),
        (r"^(blocks\.\d+)\.attn1\.to_out\.0\.", r"\1.self_attn.o."),
        (r"^(blocks\.\d+)\.attn2\.to_out\.0\.", r"\1.cross_attn.o."),
        (r"^(blocks\.\d+)\.attn1\.to_([qkv])\.", r"\1.self_attn.\2."),
        (r"^(blocks\.\d+)\.attn2\.to_([qkv])\.", r"\1.cross_attn.\2."),
        (r"^(blocks\.\d+)\.attn2\.add_([kv])_proj\.", r"\1.cross_attn.\2_img."),
        (r"^(blocks\.\d+)\.attn2\.norm_added_k\.", r"\1.cross_attn.norm_k_img."),
        (r"^(blocks\.\d+)\.attn1\.norm_", r"\1.self_attn.norm_"),
        (r"^(blocks\.\d+)\.attn2\.norm_", r"\1.cross_attn.norm_"),
        (r"^(blocks\.\d+)\.ffn\.net\.0\.proj\.", r"\1.ffn.0."),
        (r"^(blocks\.\d+)\.ffn\.net\.2\.", r"\1.ffn.2."),
        (r"^(blocks\.\d+)\.norm2\.", r"\1.norm3."),  # the affine one; the other two have no weights
        (r"^(blocks\.\d+)\.scale_shift_table$", r"\1.modulation"),
        (r"^scale_shift_table$", "head.modulation"),
        (r"^proj_out\.", "head.head."),
    )
)
_TO_DIFFUSERS = (
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("delta_embedding.0", "condition_embedder.delta_embedder.linear_1"),
    ("delta_embedding.2", "condition_embedder.delta_embedder.linear_2"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    ("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
    ("head.head", "proj_out"),
    (".cross_attn.k_img", ".attn2.add_k_proj"),
    (".cross_attn.v_img", ".attn2.add_v_proj"),
    (".self_attn.norm_", ".attn1.norm_"),
    (".cross_attn.norm_", ".attn2.norm_"),
    (".self_attn.o", ".attn1.to_out.0"),
    (".cross_attn.o", ".attn2.to_out.0"),
    (".self_attn.", ".attn1.to_"),
    (".cross_attn.", ".attn2.to_"),
    (".ffn.0", ".ffn.net.0.proj"),
    (".ffn.2", ".ffn.net.2"),
    (".norm3", ".norm2"),
)


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a model within a file: official name to stored name.

    `prefix` is what stood before the names (`generator_ema.model.`); `layout` is official or
    diffusers. `doubled` tells of two stored names that are one official name, if there are any.
    """

    prefix: str
    layout: str
    names: Mapping[str, str]
    doubled: str = ""

    @property
    def is_ema(self) -> bool:
        """Whether these are averaged weights."""
        return "ema" in re.split(r"[._]", self.prefix)


_TWIN = re.compile(
    r"(^|\.)memory_(?=(weight|bias|modulation|(patch|text|time)_embedding|time_projection|head)\b)"
)


def twin_name(name: str) -> str | None:
    """The official name of a tensor of the twin that makes the commits; None for other tensors.

    Self Gradient Forcing Plus: `q.memory_weight` beside `q.weight`, `memory_head` beside `head`.
    """
    official = _TWIN.sub(r"\1", name)
    return official if official != name else None


def without_twin(model_copy: Copy) -> tuple[Copy, Copy | None]:
    """A copy without the twin's tensors, and the twin under the official names if there is one."""
    twins = {name: twin_name(name) for name in model_copy.names}
    own = {name: stored for name, stored in model_copy.names.items() if twins[name] is None}
    twin = {
        official: model_copy.names[name]
        for name, official in twins.items() if official is not None
    }  # fmt: skip
    if not twin:
        return model_copy, None
    return replace(model_copy, names=own), replace(model_copy, names=twin)


def copies(stored: Iterable[str]) -> list[Copy]:
    """Every copy of a Wan-like transformer among the stored names (at most MAX_COPIES).

    Critics are left out.
    """
    plain = [(unwrap(name), name) for name in stored]
    names = dict.fromkeys(name for name, _ in plain)
    anchors = [match for name in names if (match := _ANCHOR.fullmatch(name))]
    return [
        _below(anchor[1], plain, diffusers=anchor[2] == "attn1.to_q")
        for anchor in sorted(anchors, key=lambda match: match[1])[:MAX_COPIES]
        if not _CRITIC.search(anchor[1])
    ]


def unwrap(name: str) -> str:
    """A stored name without the wrappers of trainers."""
    return _WRAPPER.sub("", name)


def from_diffusers(name: str) -> str:
    """The official name of a tensor, or of anything below one, that diffusers names."""
    for pattern, official in _FROM_DIFFUSERS:
        name, count = pattern.subn(official, name)
        if count:
            break
    return name


def to_diffusers(layer: str) -> str:
    """What diffusers calls the layer with this official name."""
    for official, theirs in _TO_DIFFUSERS:
        if official in layer:
            return layer.replace(official, theirs)
    return layer


def _below(prefix: str, plain: Sequence[tuple[str, str]], *, diffusers: bool) -> Copy:
    """The copy at a prefix; `plain` are all names of the file, unwrapped and as stored."""
    names, doubled = dict[str, str](), ""
    for name, stored in plain:
        inside = name.removeprefix(prefix)
        if not name.startswith(prefix) or _DROPPED.match(inside):
            continue
        official = from_diffusers(inside) if diffusers else inside
        if official in names:
            doubled = f"{names[official]} and {stored}"
        names[official] = stored
    return Copy(prefix, "diffusers" if diffusers else "official", names, doubled)
