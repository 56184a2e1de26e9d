"""Where a training run begins: weights of an earlier run, and how many steps they have had.

Such a folder has the files of `model/demo`, which count as no steps. A run writes one beside its
state: its own weights in fp16, not averaged, with their step in the header. It is a twentieth of
the state, so that it can be kept in the repository. The optimisers begin anew; their memory is 20
to 50 steps long, and a warm-up bridges it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open
from torch import nn

from ..errors import BadInput
from ..model.camera.columns import COLUMNS_PER_FRAME, column_turns
from ..model.checkpoint import open_checkpoint, read
from ..model.config import Camera, DiTConfig, State
from ..model.delta import LAYERS as STATE_LAYERS
from ..model.dit import WanDiT

STEP = "step"
COLUMNS, TURNS = "world_columns", "world_turns"
GROWTH = 300  # steps over which columns begin to move with the camera
BECOMES: Mapping[Camera, Collection[Camera | None]] = {
    "none": {None, "action", "columns"},
    "action": {None, "action", "columns"},
}
"""The cameras that training can add to weights with a camera; all others stay as they are."""
TURNS_GROWTH = 80  # steps over which their further turns grow


def config_of(folder: Path) -> DiTConfig:
    """The sizes of the transformer in `folder`, with its camera and its state."""
    return open_checkpoint(folder / "dit.safetensors").recognition.config


def config_to_train(
    fresh: DiTConfig, start: Path | None, camera: Camera | None, state: State | None
) -> DiTConfig:
    """The sizes of the weights in `start`, else `fresh` ones, with a camera and a state if asked.

    None leaves the camera and the state that the weights have.
    """
    config = fresh if start is None else config_of(start)
    if camera not in BECOMES.get(config.camera, {None, config.camera}):
        raise BadInput(
            f"the camera of the weights in {start} is {config.camera}, which cannot become "
            f"{camera}; leave --camera out."
        )
    return replace(config, camera=camera or config.camera, state=state or config.state)


def load_beginning(networks: nn.Module, folder: Path) -> int:
    """Put the weights in `folder` into the networks; returns the steps that they have had.

    Layers of a camera or a state that the files lack stay as they are.
    """
    state = {
        f"{part}.{name}": value.float()
        for part in ("dit", "text")
        for name, value in read(folder / f"{part}.safetensors")[0].items()
    }
    try:
        missing, strange = networks.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise BadInput(f"the weights in {folder} belong to a model of another shape.") from error
    if strange or not all(map(_may_be_new, missing)):
        raise BadInput(f"{folder} holds another model; differing tensors: {missing + strange}.")
    with safe_open(folder / "dit.safetensors", "pt") as file:
        return int((file.metadata() or {}).get(STEP, 0))


def go_on_from(networks: nn.Module, folder: Path, steps: int) -> int:
    """As `load_beginning`, for a run up to `steps`: refuses weights that have had them all."""
    begin = load_beginning(networks, folder)
    if begin >= steps:
        raise BadInput(
            f"the weights in {folder} have had {begin} steps already, and the run ends after "
            f"{steps}; give more --steps."
        )
    return begin


def _may_be_new(name: str) -> bool:
    of_camera = name.startswith(("dit.action_embedding.", f"dit.{COLUMNS}"))
    return of_camera or name == f"dit.{TURNS}" or f".self_attn.{STATE_LAYERS}." in name


def begin_columns(dit: WanDiT) -> None:
    """Let a new model's columns count in the picture, and not turn further; see `grow_columns`."""
    own = dict(dit.named_parameters())
    for name in {COLUMNS, TURNS} & own.keys():
        nn.init.zeros_(own[name])


def grow_columns(dit: WanDiT, step: int) -> None:
    """Let columns count in the world little by little, over a run's first steps.

    At once they would undo what weights without them have learned: the loss doubles. Weights that
    have them already keep them.
    """
    own = dict(dit.named_parameters())
    if COLUMNS in own:
        own[COLUMNS].data.clamp_(min=COLUMNS_PER_FRAME * min(1.0, (step + 1) / GROWTH))
        share = min(1.0, (step + 1) / TURNS_GROWTH)
        own[TURNS].data.clamp_(min=column_turns(dit.dim // dit.num_heads, share))
