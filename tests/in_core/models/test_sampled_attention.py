"""ANN-Sparse Attention told of on the core's own samplers, with its own Wan models, by a server
that only listens.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.model.checkpoint import open_checkpoint
from longtake.tests.support.model.family_files import SMALL, state
from longtake.tests.support.tiny_model import randn

NODE = "7"
SAID = {
    "off": r"prompt attention unchanged\.",
    "merge padding": r"100% of the prompt's tokens\.",
    "prune": r"\d+% of the prompt's tokens, [1-9]\d?% of the words left out\.",
}
ALWAYS = {"self_attention": "always", "density": 0.2, "recall_floor": 0.0}


@pytest.fixture
def shown(core: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stands under the node, one text after another."""
    from server import PromptServer

    found: list[str] = []

    def show(text: str, node: str, sid: str) -> None:
        assert (node, sid) == (NODE, "page")
        found.append(text)

    web = SimpleNamespace(client_id="page", send_progress_text=show)
    monkeypatch.setattr(PromptServer, "instance", web, raising=False)
    return found


def behind_the_node(folder: Path, name: str, **inputs: Any) -> Any:
    """The MODEL that the core makes of a small Wan file, behind the node."""
    from longtake.nodes import host
    from longtake.nodes.attention.sparse_attention import SparseAttentionNode

    save_file(state(), folder / f"{name}.safetensors")
    checkpoint = open_checkpoint(folder / f"{name}.safetensors")
    model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), None)
    hidden = {"hidden": SimpleNamespace(unique_id=NODE)}
    node = type("Prepared", (SparseAttentionNode,), hidden)
    chosen = {
        "preset": "custom", "temp_cache": False, **ALWAYS,
        "prompt_attention": "merge padding", **inputs,
    }  # fmt: skip
    return node.execute(model, **chosen).args[0]


def noise(frames: int = 3) -> Any:
    """Latents of so many latent frames, 8 x 12."""
    return randn(1, 16, frames, 16, 24, seed=1)


@torch.inference_mode()
def ksampler(model: Any, steps: int = 4) -> Any:
    """What the core's KSampler does with a MODEL: guided Euler on latents of 3 x 8 x 12 tokens."""
    import comfy.sample

    positive, negative = ([[randn(1, 24, SMALL.text_dim, seed=i), {}]] for i in (2, 3))
    return comfy.sample.sample(
        model, noise(), steps, 4.0, "euler", "simple", positive, negative,
        torch.zeros_like(noise()), seed=1, disable_pbar=True,
    )  # fmt: skip


def test_ksampler_says_density_recall_and_fallbacks_after_each_step(
    shown: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = behind_the_node(tmp_path, "wan2.1_t2v")
    assert type(model.model).__name__ == "WAN21"
    shown.clear()
    with caplog.at_level(logging.INFO, "longtake"):
        ksampler(model.clone())  # as another node after ours hands it on
    assert len(shown) == 4  # three steps that another one follows, and the end
    assert "density" not in shown[0] and "are dense" in shown[0]  # the first two of four steps
    assert shown[-1].startswith("On ComfyUI's sampler: density ")
    assert ", 0 dense fallbacks" in shown[-1]
    said = [one.getMessage() for one in caplog.records if one.name == "longtake"]
    assert said == [shown[-1]]
    ksampler(model)
    assert len(shown) == 8 and shown[-1] == shown[3]  # of that run alone


def test_a_run_that_fails_says_what_it_had_done(
    shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = behind_the_node(tmp_path, "wan2.1_t2v")
    shown.clear()

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(model.model.diffusion_model.head), "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        ksampler(model)
    [text] = shown
    assert "are dense" in text


def test_a_cancel_before_any_attention_is_said_nothing_of(
    shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = behind_the_node(tmp_path, "wan2.1_t2v")
    shown.clear()

    def cancelled(*_: Any, **__: Any) -> Any:
        raise InterruptedError

    monkeypatch.setattr(type(model.model.diffusion_model), "forward", cancelled)
    with pytest.raises(InterruptedError):
        ksampler(model)
    assert shown == []


def test_a_backend_that_is_chosen_behind_the_node_is_named(
    shown: list[str], tmp_path: Path
) -> None:
    """The core's own node puts its function in the override's place and chains to nothing."""
    from comfy_extras.nodes_model_advanced import ModelAttentionBackend

    model = behind_the_node(tmp_path, "wan2.1_t2v")
    [model] = ModelAttentionBackend().patch(model, "pytorch attention")
    shown.clear()
    ksampler(model)
    [text] = shown
    assert text.endswith("move ANN-Sparse Attention after that node.")


def test_ksampler_prunes_the_prompt_for_each_latent_frame(shown: list[str], tmp_path: Path) -> None:
    made = {}
    for how in ("off", "merge padding", "prune"):
        model = behind_the_node(tmp_path, "wan2.1_t2v", prompt_attention=how, self_attention="off")
        made[how] = ksampler(model)
        said = shown[-1].partition("; ")[2]
        assert re.fullmatch(SAID[how], said), said
    torch.testing.assert_close(made["merge padding"], made["off"], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(made["prune"], made["off"], atol=1e-3)


def test_ksampler_runs_a_causal_model_as_one_that_sees_the_whole_sequence(
    shown: list[str], tmp_path: Path
) -> None:
    """It knows of no KV cache: the same forward as that of plain Wan, which asks for overrides."""
    causal, plain = (behind_the_node(tmp_path, name) for name in ("self_forcing", "wan2.1_t2v"))
    assert type(causal.model).__name__ == "WAN21_CausalAR"
    given = noise(), torch.tensor([500.0]), randn(1, 24, SMALL.text_dim, seed=2)
    ours, theirs = (model.model.diffusion_model(*given) for model in (causal, plain))
    torch.testing.assert_close(ours, theirs)
    ksampler(causal)
    assert shown[-1].startswith("On ComfyUI's sampler: density ")


@torch.inference_mode()
def test_the_cores_ar_sampler_asks_for_no_override_and_the_node_says_so(
    shown: list[str], tmp_path: Path
) -> None:
    import comfy.sample
    import comfy.samplers

    model = behind_the_node(tmp_path, "self_forcing")
    sampler = comfy.samplers.ksampler("ar_video", {"num_frame_per_block": 1})
    prompt = [[randn(1, 24, SMALL.text_dim, seed=2), {}]]
    comfy.sample.sample_custom(
        model, noise(), 1.0, sampler, torch.tensor([1.0, 0.5, 0.0]), prompt, prompt,
        torch.zeros_like(noise()), seed=1, disable_pbar=True,
    )  # fmt: skip
    assert shown[-1].startswith("ANN-Sparse Attention did nothing: this sampler ignores attention")
