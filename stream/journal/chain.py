"""The chain of a rollout's chunks: the latent frames of each, and its content address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...attention.sparse.settings import Sparsity
from ...samplers.conditioning.known_frame import KnownFrame
from ...samplers.conditioning.prompts import embedding_digest
from ...samplers.settings import RolloutSettings
from .journal import next_key, root_key


@dataclass(frozen=True, slots=True)
class Span:
    """The latent frames [first, first + count) of one chunk; none from `until` on was active before
    it finished.
    """

    first: int
    count: int
    until: int


def spans(settings: RolloutSettings) -> Iterator[Span]:
    """The chunks that a rollout finishes, in order."""
    until = 0
    for row in settings.noise_rows():
        until = max(until, row.frames.stop)
        if row.finished:
            yield Span(row.first, row.finished, until)


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """The model that chunks are made with: `identity`, and `later` others from latent frames on,
    where a rollout went on with another model than it began with.
    """

    identity: str
    later: tuple[tuple[int, str], ...] = ()

    def at(self, latent_frame: int) -> str:
        """The model of the chunk that begins at `latent_frame`."""
        past = [identity for start, identity in self.later if start <= latent_frame]
        return past[-1] if past else self.identity

    def then(self, latent_frame: int, identity: str) -> ModelHistory:
        """These, and the model of that `identity` from `latent_frame` on."""
        if self.at(latent_frame) == identity:
            return self
        before = tuple(one for one in self.later if one[0] < latent_frame)
        return ModelHistory(self.identity, (*before, (latent_frame, identity)))


class Chain:
    """Keys of the chunks made by `settings` with the model of that identity.

    key(-1) hashes what holds throughout; key(i) hashes key(i - 1) and everything in force for chunk
    i. So a changed prompt, known frame, seed or guidance and a live edit share what came before
    them.
    """

    def __init__(self, settings: RolloutSettings, made_by: str | ModelHistory) -> None:
        self.settings = settings
        self.makers = ModelHistory(made_by) if isinstance(made_by, str) else made_by
        identity = self.makers.identity
        self._keys = [root_key(_root_fields(settings, identity))]
        self._spans: list[Span] = []
        self._more_spans = spans(settings)

    @property
    def id(self) -> str:
        """Names the rollout for locks and reports: everything but its length."""
        s = self.settings
        prompts = [(one.start_frame, embedding_digest(one.embedding)) for one in s.prompts.entries]
        named = {
            "prompts": prompts, "known": _described(s.known_frames.frames),
            "guidance": s.guidance, "changes": s.guidance_changes,
            **({"seeds": s.seed_changes} if s.seed_changes else {}),
            **({"loras": s.lora_changes} if s.lora_changes else {}),
            **({"makers": self.makers.later} if self.makers.later else {}),
            **({"recached": s.recache_frames} if s.recache_frames else {}),
        }  # fmt: skip
        return next_key(self._keys[0], named)[:16]

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
            digests = [(start, embedding_digest(one.embedding)) for start, one in prompts]
            known = self.settings.known_frames.seen(span.first, span.until)
            in_force = {
                "frames": span.count,
                "until": span.until,
                "known": _described(known),
                "prompt": digests if len(digests) > 1 else digests[0][1],
                "guidance": self.settings.at(span.first).guidance,
                **self._turned(span.first),
            }
            self._keys.append(next_key(self._keys[-1], in_force))
        return self._keys[index + 1]

    def _turned(self, first: int) -> dict[str, object]:
        """Seed, model and strength of LoRAs of a chunk, where they are no longer the root's; and
        whether its history was made anew.
        """
        seed, model = self.settings.seed_at(first), self.makers.at(first)
        turned = {"seed": (seed, self.settings.seed), "model": (model, self.makers.identity),
                  "lora": (self.settings.at(first).lora_factor, 1.0),
                  "recached": (first in self.settings.recache_frames, False)}  # fmt: skip
        return {name: now for name, (now, root) in turned.items() if now != root}

    def chunk_at(self, latent_frame: float) -> int:
        """The chunk that begins nearest to a latent frame; the last one's end counts too."""
        starts, index = [0], 0
        while starts[-1] < latent_frame:
            try:
                span = self.span(index)
            except StopIteration:
                break
            starts.append(span.first + span.count)
            index += 1
        return min(range(len(starts)), key=lambda i: abs(starts[i] - latent_frame))

    def branched(self, index: int, settings: RolloutSettings) -> Chain:
        """The chain that goes on with other `settings` from chunk `index` on."""
        self.key(index - 1)
        chain = Chain(settings, self.makers)
        chain._keys = self._keys[: index + 1]
        return chain


def _described(known: Iterable[KnownFrame]) -> list[tuple[object, ...]]:
    return [(one.frame, one.level, one.digest, *[one.lookahead][: one.lookahead]) for one in known]


def _root_fields(s: RolloutSettings, identity: str) -> dict[str, object]:
    return {
        "model": identity, "seed": s.seed, "rows": s.rows, "columns": s.columns,
        "schedule": s.schedule, "solver": s.solver, "cache": s.cache, "storage": s.storage,
        "on_prompt_change": s.on_prompt_change,
        "context_noise": s.context_noise, "negative": embedding_digest(s.prompts.negative),
        **({"sparsity": s.sparsity} if s.sparsity != Sparsity() else {}),
        **({"reference": s.reference.digest} if s.reference else {}),
        **(
            {"reencoded_first_frame": s.reencoded_first_frame.digest}
            if s.reencoded_first_frame
            else {}
        ),
    }  # fmt: skip
