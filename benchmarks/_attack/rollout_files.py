"""Saved rollouts that were damaged by chance, or changed on purpose and sealed again.

A file whose bytes were damaged must be refused. A file that was changed and sealed again, as an
attacker would, must be refused with a sentence, or load and play like any other.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ...errors import BadInput
from ...model.files.safetensors_writer import CHECKSUM, info_of, write
from ...samplers.denoiser import Denoiser
from ...stream.journal.journal import Journal
from ...stream.metrics import Report
from ...stream.rollout.fork import extend
from ...stream.rollout.hot_states import HotStates
from ...stream.rollout.rollout import Rollout
from ...stream.rollout.spec import RolloutSpec
from ...stream.rollout_file.file import SUFFIX, RolloutExtras, RolloutFile, save_rollout
from .._long.kill import KINDS, CrashPoints, settings, small_model
from .forked import Outcome, call
from .tally import Tally

LIMIT_S = 120.0  # against a hang; it must hold on a busy machine
HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**9, 2**63, 10**400, -0.5, 1e308, math.nan, math.inf, "", "x",
    "\ud800", [], {}, [[]], [1, 2, 3], {"tensor": "recipe.0"}, {"tensor": "none"}, {"tensor": 3},
    {"is": "Dense"}, {"is": "RolloutSettings"}, {"is": 5}, {"is": "FullHistory", "x": 1},
)  # fmt: skip
TEXTS = ("", "null", "[]", "{}", "x", "[" * 50_000, '{"is": "Dense"}', "1e999", "-1", "nan", "\x00")
JSON_PARTS = ("recipe", "models", "chunks", "report", "state")


@dataclass(frozen=True, slots=True)
class Mutation:
    """A changed file; one that is `sealed` again has a right checksum."""

    text: str
    sealed: bool


@dataclass(slots=True)
class Content:
    """The metadata and tensors of a file."""

    metadata: dict[str, str]
    tensors: dict[str, Tensor]


def attack(count: int, seed: int, report: Callable[[str], None]) -> Tally:
    """Load `count` mutated files; `report` gets each that did harm."""
    tally, model = Tally(), small_model(CrashPoints(None))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        samples = [sample_file(root / kind, model, _spec(root / kind, kind, model))
                   for kind in KINDS]  # fmt: skip
        for number in range(count):
            dice = random.Random(f"{seed} file {number}")
            target = root / f"mutated{SUFFIX}"
            mutation = mutate(samples[number % len(samples)], target, dice)
            outcome = judge(target, root / f"journal {number}", model)
            tally.add(f"{'sealed' if mutation.sealed else 'damaged'}, {outcome.end}")
            if outcome.is_bad or (outcome.end == "done" and not mutation.sealed):
                tally.fail(outcome.end)
                report(f"file {number} ({mutation.text}): {outcome.end} {outcome.text[-800:]}")
    return tally


def _spec(folder: Path, kind: str, model: Denoiser) -> RolloutSpec:
    folder.mkdir()
    hot = HotStates(lambda: 1 << 30)
    return RolloutSpec(settings(kind), model, "model", Journal(folder / "journal"), hot=hot)


def sample_file(folder: Path, model: Denoiser, spec: RolloutSpec) -> Path:
    """Save a finished rollout of `spec` with its state, made by `model`."""
    rollout = Rollout(spec)
    count = sum(1 for _ in rollout.chunks)
    state = rollout.run.state_after(count)
    path = folder / f"sample{SUFFIX}"
    extras = RolloutExtras(Report(rollout_id="sample"), b"\x89PNG", "cfg", 16.0, state)
    save_rollout(path, rollout.run.state, count, extras)
    return path


def mutate(source: Path, target: Path, dice: random.Random) -> Mutation:
    """Write a mutated copy of a saved rollout."""
    if dice.random() < 0.2:
        return _damage(source, target, dice)
    content = _read(source)
    change: Callable[[Content, random.Random], str] = dice.choice(
        (_change_json, _change_json, _change_json, _change_text, _change_tensor)
    )
    text = change(content, dice)
    largest_first = sorted(content.tensors.items(), key=lambda item: -item[1].element_size())
    infos = [info_of(name, tensor) for name, tensor in largest_first]
    write(target, infos, largest_first, content.metadata, checksum=True)
    return Mutation(text, sealed=True)


def judge(path: Path, folder: Path, model: Denoiser) -> Outcome:
    """Load a file, play it to its end and a little further, in a process of its own."""
    return call(lambda: _play(path, folder, model), LIMIT_S)


def _play(path: Path, folder: Path, model: Denoiser) -> str:
    file = RolloutFile(path)
    settings = file.settings()
    if settings.prompts.negative.shape[-1] != model.config.text_dim:
        raise BadInput("The node refuses a file of another family.")
    spec = RolloutSpec(
        settings, model, file.models, Journal(folder), fps=file.extras.fps, cut=len(file.metas)
    )
    file.keep_in(spec.journal, spec.chain)
    _check(Rollout(spec), file)
    longer = extend(settings, sum(spec.span(i).count for i in range(len(file.metas))), 3)
    _check(Rollout(RolloutSpec(longer, model, file.models, spec.journal)), file)
    return "it plays"


def _check(rollout: Rollout, file: RolloutFile) -> None:
    """Refuse, as a fault of the loader, what no player or writer can use."""
    if not 0 < file.extras.fps < 1e6:
        raise AssertionError(f"fps {file.extras.fps} was accepted")
    for chunk in rollout.chunks:
        if not chunk.latents.isfinite().all():
            raise AssertionError(f"chunk {chunk.index} is not finite")


def _read(path: Path) -> Content:
    with safe_open(str(path), "pt") as file:
        names = [name for name in file.keys() if name != CHECKSUM]  # noqa: SIM118
        return Content(dict(file.metadata()), {name: file.get_tensor(name) for name in names})


def _damage(source: Path, target: Path, dice: random.Random) -> Mutation:
    """Flip a bit, cut the end off, or add bytes; the checksum stays as it was."""
    content = bytearray(source.read_bytes())
    at = dice.randrange(len(content))
    kind = dice.choice(("bit", "bit", "cut", "longer"))
    if kind == "bit":
        content[at] ^= 1 << dice.randrange(8)
    elif kind == "cut":
        del content[at:]
    else:
        content += dice.randbytes(dice.randint(1, 64))
    target.write_bytes(content)
    return Mutation(f"{kind} at {at}", sealed=False)


def _change_json(content: Content, dice: random.Random) -> str:
    """Replace, delete or repeat one value of a JSON part, mostly of the recipe."""
    weights = [8, 1, 2, 1, 2]
    [part] = dice.choices(JSON_PARTS, weights)
    value = json.loads(content.metadata.get(part, "null"))
    places = list(_places(value))
    if not places:
        return _change_text(content, dice)
    parent, key = dice.choice(places)
    new = dice.choice(HOSTILE)
    act = dice.choice(("replace", "replace", "replace", "delete", "repeat"))
    if act == "delete":
        del parent[key]
    elif act == "repeat" and isinstance(parent, list):
        parent.insert(key, parent[key])
    else:
        parent[key] = new
    content.metadata[part] = json.dumps(value)
    return f"{act} {key} of {part}: {str(new)[:40]!r}"


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every value inside a JSON value, as its parent and its key."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    inner = [place for _, child in items for place in _places(child)]
    return [*((value, key) for key, _ in items), *inner]


def _change_text(content: Content, dice: random.Random) -> str:
    """Replace or delete one metadata text."""
    name, text = dice.choice(sorted(content.metadata)), dice.choice(TEXTS)
    if dice.random() < 0.2:
        del content.metadata[name]
        return f"no {name}"
    content.metadata[name] = text
    return f"{name} is {text[:20]!r}"


def _change_tensor(content: Content, dice: random.Random) -> str:
    """Remove, reshape or cast a tensor, or put values into it that are not finite."""
    name = dice.choice(sorted(content.tensors))
    tensor = content.tensors[name]
    changes: Mapping[str, Callable[[], Tensor]] = {
        "reshape": lambda: tensor.reshape(1, -1),
        "cut": lambda: tensor[:0],
        "flat": lambda: tensor.flatten(),
        "integers": lambda: torch.zeros(tensor.shape, dtype=torch.int64),
        "half": lambda: torch.zeros(tensor.shape, dtype=torch.float16),
        "nan": lambda: torch.full(tensor.shape, math.nan),
        "infinity": lambda: torch.full(tensor.shape, math.inf),
        "wide": lambda: torch.zeros(*tensor.shape, 2),
        "other": lambda: content.tensors[dice.choice(sorted(content.tensors))].clone(),
    }
    kind = dice.choice(["remove", *changes])
    if kind == "remove":
        del content.tensors[name]
    else:
        content.tensors[name] = changes[kind]().contiguous()
    return f"{kind} {name}"
