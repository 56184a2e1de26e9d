"""A rollout as one safetensors file: recipe, finished chunks, report and thumbnail.

A loaded rollout continues where it ends, on any machine, without making any chunk again.

    metadata  longtake_rollout (format version), recipe, models, chunks, guided, report, state: JSON
    tensors   recipe.N, chunk.N.latents, chunk.N.in_flight.K, state.NAME (KV caches, if requested),
              thumbnail (PNG), sha256 (of the rest)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...attention.snapshot import Snapshot
from ...errors import BadInput, StorageError
from ...model.files.safetensors_writer import info_of, is_sound, write
from ...samplers.settings import RolloutSettings
from ..journal.chain import Chain
from ..journal.journal import Journal
from ..journal.snapshots import Snapshots
from ..metrics import Report
from ..rollout.hot_states import HotState
from ..rollout.run_state import RunState
from .checks import (
    check_chunks,
    check_finite,
    parse_fps,
    parse_guided,
    parse_metas,
    parse_models,
    parse_report,
    parse_state,
)
from .recipe import from_record, to_record
from .recipe_reader import Malformed

VERSION = 3
FORMAT = "longtake_rollout"
SUFFIX = ".rollout.safetensors"
THUMBNAIL, STATE = "thumbnail", "state."
WHOLE_FLOATS = ("F32", "F64")  # latents, and the memory of solvers
CFG, SCALED = GUIDED = "cfg", "scaled"


@dataclass(frozen=True, slots=True)
class RolloutExtras:
    """What a file holds in addition to the rollout itself.

    `thumbnail` is a PNG. `guided` says how a strength becomes guidance: CFG uses it as the scale,
    SCALED multiplies the existing guidance by it. `state` is the loop's after the last chunk.
    """

    report: Report
    thumbnail: bytes | None = None
    guided: str = CFG
    fps: float = 16.0
    state: HotState | None = None


def save_rollout(path: Path, state: RunState, count: int, extras: RolloutExtras) -> int:
    """Write the first `count` chunks of a run, with its live edits, completely or not at all.

    Returns the bytes of the file.
    """
    recipe, tensors = to_record(state.whole_settings(count))
    metas = [state.spec.journal.read_meta(state.chain.key(index)) for index in range(count)]
    metadata = {
        FORMAT: str(VERSION),
        "recipe": json.dumps(recipe),
        "models": json.dumps(asdict(state.chain.models)),
        "chunks": json.dumps(metas),
        "report": extras.report.to_json(),
        "guided": extras.guided,
        "fps": str(extras.fps),
    }
    if extras.state is not None:
        snapshot = extras.state.snapshot
        metadata["state"] = json.dumps({"made_for": extras.state.made_for, "facts": snapshot.facts})
        tensors |= {f"{STATE}{name}": tensor for name, tensor in snapshot.tensors.items()}
    if extras.thumbnail is not None:
        tensors[THUMBNAIL] = torch.frombuffer(bytearray(extras.thumbnail), dtype=torch.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The folder {path.parent} cannot be created ({error.strerror}); choose another one."
        ) from error
    infos = [info_of(name, tensor) for name, tensor in _content(state, count, tensors)]
    return write(path, infos, _content(state, count, tensors), metadata, checksum=True)


def _content(
    state: RunState, count: int, small: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the file by name. Chunks are read one at a time; small items come last."""
    last = sorted((name for name in small if name == THUMBNAIL or name.startswith(STATE)),
                  key=lambda name: -small[name].element_size())  # fmt: skip
    yield from ((name, small[name]) for name in small if name not in last)
    for chunk in state.replay(range(count)):
        yield f"chunk.{chunk.index}.latents", chunk.latents
        for number, part in enumerate(chunk.in_flight):
            yield f"chunk.{chunk.index}.in_flight.{number}", part
    yield from ((name, small[name]) for name in last)


class RolloutFile:
    """A saved rollout. Reads everything except the chunks; BadInput says why that is impossible."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            metadata: dict[str, str] = file.metadata() or {}
            self._check(metadata)
            names = set(file.keys())
            self._recipe: Any = json.loads(metadata["recipe"])
            self._tensors = {
                name: file.get_tensor(name) for name in names if name.startswith("recipe.")
            }
            self.models = parse_models(metadata["models"])
            self.metas = parse_metas(metadata["chunks"])
            self._shapes = _shapes(file, names)
            self._state = parse_state(metadata.get("state", "null"))
            self.extras = RolloutExtras(
                parse_report(metadata["report"]),
                file.get_tensor(THUMBNAIL).numpy().tobytes() if THUMBNAIL in names else None,
                parse_guided(metadata["guided"], GUIDED),
                parse_fps(metadata["fps"]),
            )

    @property
    def channels(self) -> int | None:
        """The channels of the latents; None if there is no chunk."""
        return self._shapes["chunk.0.latents"][1] if self.metas else None

    def settings(self, device: torch.device | str = "cpu") -> RolloutSettings:
        """The settings of the rollout; decoders of scores are created on `device`.

        BadInput if the recipe is damaged, or the chunks in the file are not those of the recipe.
        """
        with self._translate_errors():
            settings = from_record(self._recipe, self._tensors, device)
            check_chunks(settings, len(self.metas), self._shapes.get)
        return settings

    def keep_in(self, journal: Journal, chain: Chain) -> int:
        """Copy the chunks to where a run of `chain` finds them; returns the number of new ones."""
        new = 0
        with self._open() as file:
            names = set(file.keys())
            for index, meta in enumerate(self.metas):
                key = chain.key(index)
                if key in journal:
                    continue
                tensors = {"latents": _read(file, f"chunk.{index}.latents")}
                while (name := f"chunk.{index}.in_flight.{len(tensors) - 1}") in names:
                    tensors[f"in_flight.{len(tensors) - 1}"] = _read(file, name)
                journal.write(key, tensors, meta)
                new += 1
            if self._state is not None and self.metas:
                self._keep_state(file, journal, chain, self._state)
        return new

    def _keep_state(
        self, file: Any, journal: Journal, chain: Chain, state: Mapping[str, Any]
    ) -> None:
        """Store the state as a snapshot, which a run ignores if it does not fit."""
        names = [name for name in file.keys() if name.startswith(STATE)]  # noqa: SIM118
        tensors = {name.removeprefix(STATE): _read(file, name) for name in names}
        key = chain.key(len(self.metas) - 1)
        Snapshots(journal, state["made_for"]).keep(key, Snapshot(tensors, state["facts"]))

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self._translate_errors(), safe_open(str(self.path), "pt") as file:
            yield file

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, RecursionError) as error:
            raise BadInput(
                f"{self.path} is damaged, or no Longtake wrote it ({error}); copy it again, or "
                "save the shot again."
            ) from error
        except (SafetensorError, KeyError, OSError) as error:
            raise BadInput(
                f"{self.path} cannot be read as a rollout ({error}); it may be incomplete or not a "
                "safetensors file: copy it again."
            ) from error

    def _check(self, metadata: Mapping[str, str]) -> None:
        version = metadata.get(FORMAT)
        if version is None:
            raise BadInput(f"{self.path} is not a saved rollout; choose a file *{SUFFIX}.")
        if version != str(VERSION):
            raise BadInput(
                f"{self.path} has format {version} and this Longtake reads format {VERSION}; load "
                "it with the Longtake that saved it, or make the shot again."
            )
        if not is_sound(self.path):
            raise BadInput(
                f"{self.path} is damaged (its checksum does not match); copy it again from where "
                "it was saved."
            )


def _shapes(file: Any, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of all latents and solver states in a file by name, from its header."""
    slices = {name: file.get_slice(name) for name in names if name.startswith("chunk.")}
    for name, content in slices.items():
        if content.get_dtype() not in WHOLE_FLOATS:
            raise Malformed(name, content.get_dtype(), " or ".join(WHOLE_FLOATS))
    return {name: tuple(content.get_shape()) for name, content in slices.items()}


def _read(file: Any, name: str) -> Tensor:
    """A tensor of the file, which must be finite."""
    tensor: Tensor = file.get_tensor(name)
    check_finite(name, tensor)
    return tensor
