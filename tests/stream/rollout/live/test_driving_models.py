"""Live keys on the demo with an untrained action embedding, and on a small model of each family."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longtake.benchmarks._shared.demo import COLUMNS, ROWS, demo_dit, demo_prompt
from longtake.model.dit import WanDiT
from longtake.model.families.table import BY_KEY
from longtake.model.preset import DEMO, Preset
from longtake.model.preset_cache import preset_cache
from longtake.nodes.steering.camera_lines import path_of_lines, read_moves
from longtake.samplers.camera.keys import KeyState
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.conditioning.reference import Reference
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.options import preset_schedule, preset_solver
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.settings import RolloutSettings
from longtake.stream.drive.drive import Steer
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.fork import Fork
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.model.matrix_game import SMALL_ACTIONS, random_matrix_game
from longtake.tests.support.samplers.authors import FOLDER
from longtake.tests.support.tiny_model import TINY, embedding, randn, randomise

CHUNKS = 5
BASE = "0: still"


def demo() -> tuple[Denoiser, RolloutSettings]:
    """The shipped demo with random action layers, and its settings in one step."""
    trained, config = demo_dit()
    config = replace(config, camera="action")
    dit = WanDiT(config)
    randomise(dit, 3)
    dit.load_state_dict(trained.state_dict(), strict=False)
    prompt = demo_prompt("a red ball bouncing over green hills by day, clear sky")
    preset = replace(DEMO, steps=1)
    return _model(dit, config), _settings(prompt, preset, ROWS, COLUMNS)


def lingbot() -> tuple[Denoiser, RolloutSettings]:
    """The small LingBot-World on which the authors' code ran, with its picture."""
    config = replace(TINY, in_channels=36, out_channels=16, camera="plucker")
    run = load_file(FOLDER / "lingbot_world.safetensors")
    dit = WanDiT(config)
    weights = load_file(FOLDER / "lingbot_world_weights.safetensors")
    dit.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    mask = torch.zeros(len(run["picture"]), 4, *run["picture"].shape[2:])
    mask[0] = 1
    text = run["text"]
    prompt = PromptTimeline((TimedPrompt(0, text, "a"),), torch.zeros_like(text))
    preset = replace(BY_KEY["lingbot-world-fast"].preset, window_frames=6)
    made = _settings(prompt, preset, *run["picture"].shape[2:])
    return _model(dit, config), replace(
        made, reference=Reference(torch.cat([mask, run["picture"]], 1))
    )


def minwm() -> tuple[Denoiser, RolloutSettings]:
    """The small minWM on which the authors' code ran."""
    config = replace(TINY, camera="prope")
    run, dit = load_file(FOLDER / "minwm.safetensors"), WanDiT(config)
    layers = {name: tensor for name, tensor in run.items() if name.startswith("blocks.")}
    dit.load_state_dict({**load_file(FOLDER / "weights.safetensors"), **layers})
    prompt = PromptTimeline((TimedPrompt(0, run["text"], "a"),), torch.zeros_like(run["text"]))
    preset = replace(BY_KEY["minwm"].preset, window_frames=8)
    return _model(dit, config), _settings(prompt, preset, *run["latents"].shape[2:])


def fun_camera() -> tuple[Denoiser, RolloutSettings]:
    """A random small Fun-Camera with a start picture, in chunks over a window."""
    config = replace(TINY, in_channels=36, out_channels=16, camera="fun")
    dit, rows, columns = WanDiT(config), 4, 6
    randomise(dit, 5)
    mask = torch.zeros(3 * CHUNKS, 4, rows, columns)
    mask[0] = 1
    picture = randn(3 * CHUNKS, 16, rows, columns, seed=6)
    prompt = PromptTimeline((TimedPrompt(0, embedding(1), "a"),), torch.zeros_like(embedding(1)))
    family = BY_KEY["wan21-fun-camera"].preset
    preset = replace(family, chunk_frames=3, window_frames=6, steps=2, guidance_scale=1.0)
    made = _settings(prompt, preset, rows, columns)
    made = replace(made, schedule=causal_chunks(flow_ladder(2, family.shift), 3))
    return _model(dit, config), replace(made, reference=Reference(torch.cat([mask, picture], 1)))


def matrix_game() -> tuple[Denoiser, RolloutSettings]:
    """The small Matrix-Game 2 on which the authors' code ran, with its picture and no prompt."""
    run = load_file(FOLDER / "matrix_game.safetensors")
    mask = torch.zeros(len(run["picture"]), 4, *run["picture"].shape[2:])
    mask[0] = 1
    preset, none = BY_KEY["matrix-game-2"].preset, torch.zeros(1, 0)
    prompt = PromptTimeline((TimedPrompt(0, none, "a"),), none)
    made = _settings(prompt, preset, *run["picture"].shape[2:])
    picture = Reference(torch.cat([mask, run["picture"]], 1), run["features"])
    return local_denoiser(random_matrix_game(), SMALL_ACTIONS), replace(made, reference=picture)


def _model(dit: WanDiT, config: object) -> Denoiser:
    return local_denoiser(dit.eval().requires_grad_(False), config)  # type: ignore[arg-type]


def _settings(prompt: PromptTimeline, preset: Preset, rows: int, columns: int) -> RolloutSettings:
    schedule = preset_schedule(preset)
    return RolloutSettings(
        prompt, rows, columns, schedule, length=CHUNKS * schedule.chunk_frames, seed=7,
        solver=preset_solver(preset), cache=preset_cache(preset),
        guidance=cfg(preset.guidance_scale),
    )  # fmt: skip


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("build", [demo, lingbot, minwm, fun_camera, matrix_game])
def test_a_drive_is_its_lines_when_resumed_forked_and_rewound(
    tmp_path: Path, build: object
) -> None:
    engine, plain = build()  # type: ignore[operator]
    fps = 16.0

    def shot(text: str) -> RolloutSettings:
        return replace(plain, camera=path_of_lines(read_moves(text), fps, 4 / fps))

    def rollout(made: RolloutSettings, folder: Path = tmp_path, cut: int | None = None) -> Rollout:
        return Rollout(RolloutSpec(made, engine, "m", Journal(folder), fps=fps, cut=cut))

    run, live = rollout(shot(BASE)).run, []
    for chunk in run.chunks:
        live.append(chunk.latents)
        keys = {0: "left", 2: "right shift", 3: ""}.get(chunk.index)
        if keys is not None:
            run.controls.drive.steer(
                Steer("page", chunk.index + 1, KeyState(frozenset(keys.split())))
            )
    text = "\n".join([BASE, *run.controls.drive.lines])
    again = rollout(shot(text), tmp_path / "new")
    assert torch.equal(torch.cat([chunk.latents for chunk in again.chunks]), torch.cat(live))
    for index in (3, 4):
        Journal(tmp_path)._path(run.state.chain.key(index)).unlink()
    resumed = rollout(shot(text))
    assert torch.equal(torch.cat([chunk.latents for chunk in resumed.chunks]), torch.cat(live))
    assert resumed.resumed_from == 3
    rewound = rollout(shot(text), cut=2)
    assert torch.equal(torch.cat([c.latents for c in rewound.chunks]), torch.cat(live[:2]))
    first = plain.schedule.chunk_frames * 3
    fork = [c.latents for c in rollout(Fork(first, seed=1).apply(shot(text))).chunks]
    assert torch.equal(torch.cat(fork[:3]), torch.cat(live[:3]))
    still = [chunk.latents for chunk in rollout(shot(BASE)).chunks]
    assert torch.equal(still[0], live[0])
    assert not torch.allclose(still[1], live[1], atol=1e-3)
