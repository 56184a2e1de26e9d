"""Training a state beside the window: what a frame reads, and a loss that falls through it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import torch
from click.testing import CliRunner

from longtake.model.checkpoint import load_dit
from longtake.model.config import DiTConfig
from longtake.tests.support.tiny_model import randn
from longtake.tests.support.training_runs import save_tiny_vae, tiny_run
from longtake.training import train_dit
from longtake.training.batches import Batch, Layout, frame_mask, lay_out
from longtake.training.beginnings import load_beginning
from longtake.training.muon import Muon
from longtake.training.state import absorbed_frames, states_of_clip
from longtake.training.world.dataset import Pool

CONFIG = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=2, text_dim=8)
CONTEXT, NOISY, WINDOW = 12, [9, 10, 11], 3


def test_a_frame_reads_the_state_of_all_that_left_its_window() -> None:
    mask = frame_mask(CONTEXT, NOISY, 3, WINDOW).repeat_interleave(4, 0).repeat_interleave(4, 1)
    by_chunk = [max(0, start - WINDOW) for start in (0, 3, 6, 9) for _ in range(3)]
    assert absorbed_frames(mask, CONTEXT, 4) == [*by_chunk, 6, 6, 6]
    alone = frame_mask(3, [0, 1, 2], 3, WINDOW)
    assert absorbed_frames(alone, 3, 1) == [0] * 6


def clips() -> Batch:
    """Clips whose last chunk repeats their first, which only the state can know by then."""
    first = randn(6, 3, 16, 4, 4, seed=1)
    between = randn(6, 6, 16, 4, 4, seed=2)
    latents = torch.cat([first, between, first], 1)
    ones = torch.zeros(6, CONTEXT)
    pool = Pool(latents, torch.ones(6, 1, 24).long(), ones.long(), torch.zeros(6, CONTEXT, 4, 4),
                ones, ones)  # fmt: skip
    mask = frame_mask(CONTEXT, NOISY, 3, WINDOW)
    layout = Layout([*range(CONTEXT), *NOISY], NOISY, mask, edges=False)
    levels = torch.zeros(6, CONTEXT + len(NOISY))
    levels[:, CONTEXT:] = 1.0
    torch.manual_seed(0)
    return lay_out(pool, layout, levels, random.Random(0))


def losses_through_the_state(networks: train_dit.Networks, batch: Batch, steps: int) -> list[float]:
    """Losses of a run that trains the states' layers alone."""
    networks.requires_grad_(False)
    trained = [p.requires_grad_() for name, p in networks.named_parameters() if ".delta." in name]
    matrices = [p for p in trained if p.ndim == 2]
    optimiser, losses = Muon(matrices, 0.02), []
    for _ in range(steps):
        loss = train_dit.loss_of(networks, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def networks_of(config: DiTConfig) -> train_dit.Networks:
    """Networks with weights that pass something on, and states that answer nothing yet."""
    torch.manual_seed(3)
    networks = train_dit.build(config)
    for name, parameter in networks.dit.named_parameters():
        if name.endswith(("ffn.2.weight", "self_attn.o.weight", "head.head.weight", "modulation")):
            torch.nn.init.normal_(parameter, std=0.2)
    return networks


def test_the_loss_falls_through_the_state() -> None:
    """The last chunk is pure noise, and what it repeats is nowhere but in the state."""
    networks, batch = networks_of(replace(CONFIG, state="delta")), clips()
    losses = losses_through_the_state(networks, batch, 24)
    assert losses[-1] < 0.97 * losses[0] and losses[-1] < losses[12]
    gone = replace(batch, x=batch.x.clone())
    gone.x[:, :6] = gone.x[:, :6].roll(1, 0)  # another clip's past is in the state
    with torch.no_grad():
        assert float(train_dit.loss_of(networks, gone)) > 1.01 * losses[-1]


def test_before_training_the_networks_are_those_without_a_state() -> None:
    batch, ours = clips(), networks_of(replace(CONFIG, state="delta"))
    plain = networks_of(CONFIG)
    shared = {k: v for k, v in ours.state_dict().items() if ".delta." not in k}
    plain.load_state_dict(shared)
    with torch.no_grad():
        assert states_of_clip(ours.dit, batch).in_attention
        assert torch.equal(ours(batch), plain(batch))


def test_a_run_with_a_state_begins_without_and_writes_a_file_that_loads(tmp_path: Path) -> None:
    vae_file = save_tiny_vae(tmp_path)
    train_dit.train(vae_file, tmp_path / "plain", tiny_run(1, CONFIG))
    state_run = tiny_run(3, replace(CONFIG, state="delta"), window=1)
    state_run = replace(state_run, start=tmp_path / "plain/start")
    train_dit.train(vae_file, tmp_path / "state", state_run)
    dit = load_dit(tmp_path / "state/dit.safetensors")
    assert dit.blocks[0].self_attn.delta.out.weight.any()
    assert load_beginning(train_dit.build(replace(CONFIG, state="delta")), tmp_path / "state/start")
    refused = CliRunner().invoke(
        train_dit.main,
        ["--vae", str(vae_file), "--out", str(tmp_path), "--state", "delta", "--second"],
    )
    assert refused.exit_code == 2 and "omit --second" in refused.output
