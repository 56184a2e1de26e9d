"""The names that saved rollouts contain, pinned."""

from __future__ import annotations

import dataclasses

from longtake.stream.rollout_file.recipe_types import known_types

RECORDED = """
AgeRange: newest oldest
AllFrames:
Anchor: strength target
AnchorWindow: window_frames sink_frames
AsComputed:
AveragingSink: window_frames sink_frames sink_decay
Blend: chunk_frames parts steps
Branch: weight prompt view skipped
CameraPath: starts steps growths lens full_step frame_s
ChannelStatistics: mean deviation
ControlStrength: starts factors
ControlVideo: frames references strength
ContextNoise: level ramp_frames fresh
DDIM: process prediction eta
DPMSolverPP2M: process stochastic
CoarseWindow: window_frames sink_frames fine_frames
DeltaWindow: window_frames sink_frames
Dense:
DistantSink: window_frames sink_frames
DummyHeads: window_frames sink_frames dummy_share dummy_frames distant_sink
Euler: process stochastic
FarReading: near_frames last_steps last_layers layer_stride share
FeatureCaching: threshold first_steps
Float8:
Flow: timesteps whole
FullHistory:
Guidance: branches base strength timing limits stabilise weighted_scores in_one_pass
    normalized_attention
GuidanceTiming: interval per_step first_chunk
Integers: bits key_tokens value_channels zero_points
KnownFrame: frame latents level lookahead digest
KnownFrames: frames
Lens: focal_x focal_y centre_x centre_y
Limits: rescale norm_cap
MemoryBank: window_frames sink_frames bank_frames every
Mixture: first second share
MostAttended: window_frames sink_frames per_head memory
MemoryRules: commit recency past far positions
Motion: min_change
NewestFrames: frames
NoFrames:
NormalizedAttention: scale tau alpha
OnDevice:
OwnPrompt: embedding text
Packed: codec recent_frames placement
Padded: rows length
Palette: colours pictures
PastWeight: weight chunks
PromptMix: embedding shares
PromptTimeline: lines negative mix
RecallWindow: window_frames sink_frames recall_frames runs by archive_frames flat_world
    only_new_views
RecencyBias: depth
ReNoise: process stochastic
ReNoiseInHalves: process boundary stochastic
RebuiltWindow: window_frames sink_frames
ReencodedFirstFrame: codec digest room_bytes
Reference: channels features rays start voice
Region: picture box pictures
RolloutSettings: prompts rows columns schedule length seed solver guidance cache context_noise
    storage placement on_prompt_change hold_rotated guidance_changes known_frames seed_changes
    sparsity reference lora_factor lora_changes recache_frames reencoded_first_frame
    memory anchor camera control level_changes feature_caching
SharedWindow: window_frames sink_frames
SinkFrames:
SkippedLayers: layers interval
SparseCross: prune min_tokens bits from_tokens
SparseSelf: density dense_share dense_layers recall_floor recent_frames order min_keys kernel
Sparsity: self_sparsity prompt_sparsity
StoredControl: latents masks digests
StoredPicture: latents digest
StaggeredSchedule: ladder chunk_frames lag first_ladder mirrored visibility reach first_frames
TAEHVConfig: channels widths patch raw
TempCache: entry_frames threshold floor sink_frames reach_frames max_mass index eviction
    recent_frames kernel
TetherCache: window_frames sink_frames newest_frames diversity alignment
TimedGuidance: start_frame guidance
TimedLevel: start_frame level
TimedLora: start_frame factor
TimedPrompt: start_frame embedding text active_from active_until blend
TimedSeed: start_frame seed
TinyVAEConfig: encoder_widths decoder_widths
TopAligned: trained_frames
UniPC2: process stochastic
VariancePreserving: betas
View: frames level exact commit_prompt
WaveWindow: window_frames sink_frames
WeightedScore: score weight limit
WindowSink: window_frames sink_frames
"""
"""Every class of a recipe with the fields that it writes."""

ADVICE = (
    "Saved rollouts and chunk addresses contain these names. If the change is meant, raise VERSION "
    "in stream/rollout/file.py, so that older files are refused in one sentence, and pin the new "
    "names here."
)


def recorded() -> dict[str, set[str]]:
    entries = RECORDED.replace("\n    ", " ").strip().splitlines()
    parts = (entry.split(":") for entry in entries)
    return {name: set(fields.split()) for name, fields in parts}


def test_what_a_recipe_writes_keeps_its_names() -> None:
    written = {
        name: {field.name for field in dataclasses.fields(kind) if field.init}
        for name, kind in known_types().items()
    }
    assert written == recorded(), ADVICE
