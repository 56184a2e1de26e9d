"""The chain of a rollout's chunks: the latent frames and the content address of each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ...attention.sparse.settings import Sparsity
from ...samplers.camera.implied import implied_motion
from ...samplers.camera.moves import STILL
from ...samplers.conditioning.digest import embedding_digest
from ...samplers.conditioning.known_frame import KnownFrame
from ...samplers.conditioning.prompts import TimedPrompt
from ...samplers.rules.memory import MemoryRules
from ...samplers.settings import RolloutSettings
from .journal import live_key, next_key, root_key


@dataclass(frozen=True, slots=True)
class Span:
    """One chunk covers the latent frames [first, first + count).

    Frames from `until` on had not been started when the chunk finished.
    """

    first: int
    count: int
    until: int

    @property
    def end(self) -> int:
        """The latent frame after its last one."""
        return self.first + self.count


def spans(settings: RolloutSettings) -> Iterator[Span]:
    """The chunks that a rollout finishes, in order."""
    until = 0
    for row in settings.noise_rows():
        until = max(until, row.frames.stop)
        if row.finished:
            yield Span(row.first, row.finished, until)


def count_spans(settings: RolloutSettings, length: int) -> int:
    """How many chunks a rollout of `length` latent frames finishes.

    Where they are clean one after another, hours of video need no list of them.
    """
    in_turn = settings.schedule.chunks_in_turn(length, settings.origin)
    if in_turn is None:
        return sum(1 for _ in spans(settings))
    known = settings.known_frames.leading_rows(settings.schedule.chunk_frames)
    return sum(1 for _ in known) + in_turn


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """The models that made a rollout, by their fingerprints.

    `identity` made the first chunk; each (latent frame, fingerprint) in `later` took over there.
    """

    identity: str
    later: tuple[tuple[int, str], ...] = ()

    def at(self, latent_frame: int) -> str:
        """The model that makes the chunk beginning at `latent_frame`."""
        past = [identity for start, identity in self.later if start <= latent_frame]
        return past[-1] if past else self.identity

    def then(self, latent_frame: int, identity: str) -> ModelHistory:
        """This history, continued by the model `identity` from `latent_frame` on."""
        if self.at(latent_frame) == identity:
            return self
        before = tuple(change for change in self.later if change[0] < latent_frame)
        return ModelHistory(self.identity, (*before, (latent_frame, identity)))


class Chain:
    """The keys of the chunks that `settings` and the models give.

    key(-1) hashes what holds throughout; key(i) hashes key(i - 1) and everything in force for chunk
    i. Rollouts that differ only from some frame on therefore share the chunks before it.
    """

    def __init__(
        self, settings: RolloutSettings, models: str | ModelHistory, live: str = ""
    ) -> None:
        """`live` names what comes in while the rollout is made; empty if nothing does."""
        self.settings, self.live = settings, live
        self.models = ModelHistory(models) if isinstance(models, str) else models
        identity = self.models.identity
        more = {"live": live} if live else {}
        self._keys = [root_key({**_root_fields(settings, identity), **more})]
        self._id: str | None = None
        self._spans: list[Span] = []
        self._more_spans = spans(settings)

    @property
    def id(self) -> str:
        """Identifies the rollout in locks and reports; independent of its length."""
        if self._id is None:
            self._id = self._make_id()
        return self._id

    def _make_id(self) -> str:
        s = self.settings
        prompts = [(p.start_frame, p.digest) for p in s.prompts.entries]
        facts = {
            "prompts": prompts, "known": _describe_known(s.known_frames.frames),
            "guidance": s.guidance, "changes": s.guidance_changes,
            **({"seeds": s.seed_changes} if s.seed_changes else {}),
            **({"loras": s.lora_changes} if s.lora_changes else {}),
            **({"levels": s.level_changes} if s.level_changes else {}),
            **({"models": self.models.later} if self.models.later else {}),
            **({"recached": s.recache_frames} if s.recache_frames else {}),
            **({"camera": s.camera.digest} if s.camera else {}),
            **({"control": s.control.digest} if s.control else {}),
        }  # fmt: skip
        return next_key(self._keys[0], facts)[:16]

    def span(self, index: int) -> Span:
        """The latent frames of chunk `index`."""
        while len(self._spans) <= index:
            self._spans.append(next(self._more_spans))
        return self._spans[index]

    def key(self, index: int) -> str:
        """The content address of chunk `index`."""
        while len(self._keys) <= index + 1:
            span = self.span(len(self._keys) - 1)
            prompts = self.settings.active_prompts(span.first, span.until).prompts
            digests = [(start, entry.digest) for start, entry in prompts]
            known = self.settings.known_frames.seen(span.first, span.until)
            inputs = {
                "frames": span.count,
                "until": span.until,
                "known": _describe_known(known),
                "prompt": digests if len(digests) > 1 else digests[0][1],
                "guidance": self.settings.at(span.first).guidance,
                **self._steering(span, known),
                **self._words(prompts),
                **self._changes_from_root(span.first),
            }
            self._keys.append(next_key(self._keys[-1], inputs))
        return self._keys[index + 1]

    def _steering(self, span: Span, ahead: Iterable[KnownFrame]) -> dict[str, str]:
        """What a chunk's passes read of the camera's path and of the control video, if anything.

        The first chunk's read those of the given frames before it too.
        """
        first = 0 if len(self._keys) == 1 else span.first
        frames = sorted({*range(first, span.until), *(known.frame for known in ahead)})
        parts = {"camera": self.settings.camera, "control": self.settings.control}
        digests = {name: part.digest_of(frames) for name, part in parts.items() if part}
        return {name: digest for name, digest in digests.items() if digest}

    def _words(self, prompts: Sequence[tuple[int, TimedPrompt]]) -> dict[str, object]:
        """How the words of the prompts in force move the camera, if they do.

        A text encoder need not know these words, and gives the same embedding without them.
        """
        motions = [implied_motion(entry.text) for _, entry in prompts]
        moves = self.settings.camera is None and any(motion != STILL for motion in motions)
        return {"words": motions} if moves else {}

    def _changes_from_root(self, first: int) -> dict[str, object]:
        """What differs from the root for one chunk: seed, model, LoRA strength, a recache."""
        seed, model = self.settings.seed_at(first), self.models.at(first)
        current = {"seed": (seed, self.settings.seed), "model": (model, self.models.identity),
                  "lora": (self.settings.at(first).lora_factor, 1.0),
                  "recached": (first in self.settings.recache_frames, False)}  # fmt: skip
        return {name: now for name, (now, root) in current.items() if now != root}

    def chunk_with(self, latent_frame: int) -> int:
        """The chunk that this latent frame of the shot is in."""
        while not self._spans or self._spans[-1].end <= latent_frame:
            self.span(len(self._spans))
        return bisect_right(self._spans, latent_frame, key=lambda span: span.first) - 1

    def chunk_at(self, latent_frame: float) -> int:
        """The chunk that begins nearest to a latent frame.

        The end of the last chunk counts too, as the beginning of a chunk after it.
        """
        starts, index = [0], 0
        while starts[-1] < latent_frame:
            try:
                span = self.span(index)
            except StopIteration:
                break
            starts.append(span.first + span.count)
            index += 1
        return min(range(len(starts)), key=lambda i: abs(starts[i] - latent_frame))

    def branch(self, index: int, settings: RolloutSettings) -> Chain:
        """The chain that continues with other `settings` from chunk `index` on."""
        chain = Chain(settings, self.models, self.live)
        if index:  # before it nothing is shared, and the root has the seed
            self.key(index - 1)
            chain._keys = self._keys[: index + 1]
        return chain

    def steer(self, index: int, settings: RolloutSettings) -> Chain:
        """The chain from chunk `index` on with `settings` that have another camera path alone."""
        chain = self.branch(index, settings)
        chain._spans, chain._more_spans = self._spans, self._more_spans  # a path changes none
        return chain

    def follow(self, index: int, settings: RolloutSettings) -> Chain:
        """The same rollout, going on with what came in live for chunk `index`."""
        chain = self.branch(index, settings)
        chain._id, chain._spans, chain._more_spans = self.id, self._spans, self._more_spans
        return chain

    def input_key(self, index: int) -> str:
        """The address of what came in live for chunk `index`: it follows from the chunk before."""
        return live_key(self.key(index - 1))


def _describe_known(known: Iterable[KnownFrame]) -> list[tuple[object, ...]]:
    return [(k.frame, k.level, k.digest, *([k.lookahead] if k.lookahead else [])) for k in known]


def _root_fields(s: RolloutSettings, identity: str) -> dict[str, object]:
    return {
        "model": identity, "seed": s.seed, "rows": s.rows, "columns": s.columns,
        "schedule": s.schedule, "solver": s.solver, "cache": s.cache, "storage": s.storage,
        "on_prompt_change": s.on_prompt_change,
        "context_noise": s.context_noise, "negative": embedding_digest(s.prompts.negative),
        **({"sparsity": s.sparsity} if s.sparsity != Sparsity() else {}),
        **({"memory": s.memory} if s.memory != MemoryRules() else {}),
        **({"anchor": s.anchor} if s.anchor else {}),
        **({"feature_caching": s.feature_caching} if s.feature_caching else {}),
        **({"reference": s.reference.digest} if s.reference else {}),
        **(
            {"reencoded_first_frame": s.reencoded_first_frame.digest}
            if s.reencoded_first_frame
            else {}
        ),
    }  # fmt: skip
