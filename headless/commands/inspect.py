"""`longtake inspect`: what a weights file is and needs; reads its header only."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...errors import BadInput
from ...model.families.few_steps import few_step_warning
from ...model.families.memory import MemoryPlan, memory_plan
from ...model.families.quantised import describe
from ...model.families.recognise import Recognition, recognise
from ...model.files.header import Header, main_dtype
from ...model.files.weights import open_weights
from ...model.flashvsr.parts import TITLES, part_of
from ...samplers.planning.cache_forms import CacheForm, CacheForms, describe_form
from ...units import byte_size

COUNTED = (
    "(weights, KV cache, a pass and the VAE's state, with the family's guidance; decoding takes "
    "more while it runs. The sampler chooses the second form by itself where the first does not "
    "fit.)"
)
PICTURES = {"480p": (832, 480), "720p": (1280, 720)}


def inspect(path: Path) -> dict[str, Any]:
    """Return everything known about a file, for `lines` and for programs."""
    header = open_weights(path).header
    findings: dict[str, Any] = {
        "file": str(path),
        "container": header.container,
        "tensors": len(header.tensors),
        "numbers": sum(tensor.count for tensor in header.tensors.values()),
        "stored_bytes": header.stored_bytes,
        "dtype": main_dtype(header.tensors),
        "dtypes": dict(Counter(t.dtype for t in header.tensors.values()).most_common()),
        "metadata": {key: _short(value) for key, value in header.metadata.items()},
    }
    part = part_of(header)
    if part is not None:
        return findings | {"part": part}
    try:
        model = recognise(header)
    except BadInput as error:
        return findings | {"refusal": str(error)}
    return findings | _model(model, header)


def lines(findings: dict[str, Any]) -> list[str]:
    """Format the findings of `inspect` as text, the most important first."""
    dtypes = ", ".join(f"{name} x {count}" for name, count in findings["dtypes"].items())
    numbers = f"{findings['numbers'] / 1e6:,.2f} M numbers"
    stored = byte_size(findings["stored_bytes"])
    shown = [
        f"file        {findings['file']} ({findings['container']}, {stored})",
        f"tensors     {findings['tensors']} ({dtypes}), {numbers}",
    ]
    if "part" in findings:
        return [*shown, f"part        {_part(findings['part'])}"]
    if "refusal" in findings:
        return [*shown, f"refused     {findings['refusal']}"]
    shown += [
        f"family      {findings['family']} ({findings['key']})",
        f"sizes       {_sizes(findings['sizes'])}",
        f"preset      {_preset(findings['preset'])}",
        *(f"quantised   {line}" for line in findings["formats"]),
        *(f"note        {note}" for note in (findings["preset"]["note"],) if note),
        *(f"warning     {warning}" for warning in findings["warnings"]),
        *(f"memory      {_memory(name, plan)}" for name, plan in findings["memory"].items()),
        *(
            f"fits        {describe_form(name, CacheForm(**form))}"
            for name, forms in findings["cache_forms"].items()
            for form in forms
        ),
        f"            {COUNTED}",
        f"licence     {findings['licence']}",
        f"source      {findings['source']}",
        *(f"because     {reason}" for reason in findings["reasons"]),
    ]
    if findings["unused"]:
        examples = ", ".join(findings["unused"][:3])
        shown.append(f"unused      {len(findings['unused'])} tensors, for example {examples}")
    return shown + [f"metadata    {key}: {value}" for key, value in findings["metadata"].items()]


def _part(part: str) -> str:
    """What one of FlashVSR's files beside its transformer is for."""
    return (
        f"FlashVSR's {TITLES[part]}, version 1 or 1.1 (tensors do not tell): put it into the "
        "folder of FlashVSR's transformer, which has the tensors of a plain Wan 2.1 1.3B"
    )


def _model(model: Recognition, header: Header) -> dict[str, Any]:
    plans = {name: memory_plan(model, *size) for name, size in PICTURES.items()}
    return {
        "family": model.family.title,
        "key": model.family.key,
        "causal": model.family.causal,
        "layout": model.copy.layout,
        "copy": model.copy.prefix,
        "quantised": bool(model.quantised.formats) or header.container == "GGUF",
        "formats": describe(model.quantised),
        "sizes": asdict(model.config),
        "preset": asdict(model.family.preset),
        "memory": {name: asdict(plan) for name, plan in plans.items()},
        "cache_forms": {
            name: [asdict(form) for form in CacheForms(model, plan).all()]
            for name, plan in plans.items()
        },
        "licence": model.family.licence,
        "source": model.family.source,
        "reasons": list(model.reasons),
        "unused": list(model.unused),
        "warnings": [*filter(None, [few_step_warning(model)])],
    }


def _sizes(sizes: dict[str, int]) -> str:
    return (
        f"dim {sizes['dim']}, ffn {sizes['ffn_dim']}, {sizes['num_heads']} heads, "
        f"{sizes['num_layers']} layers, {sizes['in_channels']} channels in, "
        f"{sizes['out_channels']} out, "
        + (f"text {sizes['text_dim']}" if sizes["text_dim"] else "no text")
    )


def _preset(preset: dict[str, Any]) -> str:
    window = preset["window_frames"]
    past = f"window {window} + sink {preset['sink_frames']}" if window else "all of the past"
    past += f" + memory bank {preset['bank_frames']}" if preset["bank_frames"] else ""
    levels = " ".join(f"{t:g}" for t in preset["timesteps"]) or f"{preset['steps']} even"
    first = " ".join(f"{t:g}" for t in preset["first_timesteps"])
    first = first or (f"{preset['first_steps']} even" if preset["first_steps"] else "")
    shift = f"shift {preset['shift']:g}" if preset["shift_timesteps"] else "already shifted"
    guidance = preset["guidance_scale"]
    return (
        f"chunks of {preset['chunk_frames']}"
        + (f" after a first one of {count}" if (count := preset["first_frames"]) else "")
        + f", steps {levels} ({preset['solver']}, {shift})"
        + (f", first chunk {first}" if first else "")
        + (f", the second model below noise level {p:g}" if (p := preset["boundary"]) else "")
        + f", {past}, "
        + (f"CFG {guidance:g}" if guidance != 1 else "no CFG")
        + f", {preset['width']}x{preset['height']} at {preset['fps']:g} fps"
    )


def _memory(name: str, plan: dict[str, Any]) -> str:
    p = MemoryPlan(**plan)
    of_file, of_both, each = (
        (" of this file", " of both models", " of each") if p.histories > 1 else ("", "", "")
    )
    return (
        f"{name} ({p.width}x{p.height}): weights {byte_size(p.weight_bytes)}{of_file}, KV cache "
        f"{byte_size(p.kv_bytes)}{of_both} ({byte_size(p.kv_frame_bytes)} a latent frame{each})"
        + (f", VAE {byte_size(p.vae_bytes)}" if p.vae_bytes else "")
    )


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
