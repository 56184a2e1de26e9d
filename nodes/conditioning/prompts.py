"""Prompt Timeline: what the shot shows, and from when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .. import categories, host, sockets
from ..models.demo_objects import DemoCLIP, problems
from ..runtime.session import session
from ..schema import build
from .prompt_plan import TEXT_LEN
from .timeline import TimedEmbedding, TimedText, Timeline, parse, written

EXAMPLE = """0: a red ball bouncing over green hills by day, clear sky, the camera pans left
5: a blue ball bouncing over green hills at night, clear sky, the camera pans left"""


class PromptTimeline(io.ComfyNode):
    """Lines of text with times, encoded."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakePromptTimeline",
            display_name="Prompt Timeline",
            category=categories.PROMPT,
            description="Changes the prompt while the shot goes on: one line per prompt, each with "
            "the second it starts at.",
            search_aliases=["prompt schedule", "prompt travel", "multi prompt"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default=EXAMPLE,
                    tooltip="Lines `SECONDS: prompt` or `MINUTES:SECONDS: prompt`, the first at 0. "
                    "A prompt takes over with the chunk that starts nearest to its time; of two "
                    "on one chunk the lower line counts. `12.5 (guidance 3): prompt` changes the "
                    "sampler's cfg too, 0 to 30, until another line does. A line without a time "
                    "goes on with the prompt above it. `12.5 (over 2): prompt` takes over little "
                    "by little, in 2 seconds.",
                ),
                io.String.Input(
                    "negative",
                    default="",
                    tooltip="What the pictures should not show; used when cfg is not 1. Leave it "
                    "empty for the demo model.",
                ),
            ],
            outputs=[sockets.Timeline.Output(display_name="prompts")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, clip: Any, text: str, negative: str) -> io.NodeOutput:
        """Encode every line of the timeline."""
        node_id = cls.hidden.unique_id
        entries = [
            TimedEmbedding(
                line.start_s, embed(clip, line.text, node_id), line.text, line.guidance, line.over_s
            )
            for line in parse(text)
        ]
        prompter = CLIPPrompter(clip, node_id)
        return io.NodeOutput(Timeline(tuple(entries), embed(clip, negative, node_id), prompter))


@dataclass(frozen=True, slots=True)
class CLIPPrompter:
    """What live edits need of a Prompt Timeline: its text encoder, and how its lines look."""

    clip: Any
    node_id: str | None

    def encode(self, text: str) -> Tensor:
        """The embedding (l, c) of a prompt, made without pushing models off the card."""
        beside = host.encoder_beside_models(self.clip)
        embedding = embed(beside, text, self.node_id)
        if beside is not self.clip:
            session.remember(self.clip, text, embedding)
        return embedding

    def line(self, start_s: float, text: str, guidance: float | None) -> str:
        """The timeline's line for this prompt."""
        return written(TimedText(start_s, text, guidance))


def shortened(tokens: Any) -> tuple[Any, int]:
    """The host's tokens, cut to what Wan's text encoder was trained with, and how many went.

    As Wan's own tokenizer cuts: the end-of-text token stays the last one. Source: Wan-Video/Wan2.1
    `wan/modules/tokenizers.py` (`truncation=True`, 512). Tokens of another form stay as they are.
    """
    if not isinstance(tokens, Mapping):
        return tokens, 0
    dropped, kept = 0, dict(tokens)
    for name, batches in tokens.items():
        if isinstance(batches, list):
            dropped = max([dropped, *(len(one) - TEXT_LEN for one in batches)])
            kept[name] = [
                [*one[: TEXT_LEN - 1], one[-1]] if len(one) > TEXT_LEN else one for one in batches
            ]
    return kept, dropped


def embed(clip: Any, text: str, node_id: str | None) -> Tensor:
    """The embedding (l, c) of a prompt by any of the host's text encoders; words not understood are
    named.
    """
    remembered = session.embedding(clip, text)
    if remembered is not None:
        return remembered
    if not isinstance(clip, DemoCLIP):
        tokens, dropped = shortened(clip.tokenize(text))
        if dropped:
            host.warn(
                node_id,
                f"The prompt {text[:40]!r}... is {dropped} tokens longer than the {TEXT_LEN} that "
                "the model takes; its end is left out.",
            )
        return clip.encode_from_tokens_scheduled(tokens)[0][0][0]
    encoded = clip.encode_prompt(text)
    for problem in problems(encoded):
        host.warn(node_id, problem)
    return encoded.embedding
