"""The host's Wan decoders as layers of ours: which are known, their order, and the others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format

from longtake.model.vae.latent_format import denormalise
from longtake.model.vae.rehearsal import rehearse
from longtake.model.vae.wan22_streaming import Wan22StreamingDecoder, Wan22StreamingEncoder
from longtake.model.vae.wan_layers import CHANNELS, LayerStream
from longtake.model.vae.wan_streaming import TreeStream, WanStreamingDecoder, WanStreamingEncoder
from longtake.model.vae.wan_structure import decoder_layers
from longtake.tests.in_core.support.wan_vae import needs_bfloat16, random_tree, random_wan22_tree

SPLITS = [[5], [1] * 5, [2, 3], [0, 4, 1]]
KINDS = {"2.1": WanStreamingDecoder, "2.2": Wan22StreamingDecoder}
ENCODERS = {"2.1": WanStreamingEncoder, "2.2": Wan22StreamingEncoder}
CHANNELS_OF = {"2.1": 16, "2.2": 48}


@pytest.fixture(scope="module")
def trees(core: Any) -> dict[str, Any]:
    return {"2.1": random_tree(core), "2.2": random_wan22_tree(core)}


def latents_of(name: str) -> Tensor:
    shape = 5, CHANNELS_OF[name], 2, 3
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def fed(decoder: Any, latents: Tensor, split: list[int]) -> Tensor:
    return torch.cat([decoder.feed(part) for part in latents.split(split)])


@pytest.mark.parametrize("name", KINDS)
def test_the_hosts_decoders_are_known(trees: dict[str, Any], name: str) -> None:
    assert decoder_layers(trees[name].decoder) is not None
    assert isinstance(KINDS[name](trees[name], torch.float32)._stream, LayerStream)


def other_activation(decoder: Any) -> None:
    decoder.middle[0].residual[1] = nn.GELU()


def biased_norm(decoder: Any) -> None:
    decoder.head[0].bias = nn.Parameter(torch.zeros_like(decoder.head[0].gamma))


def further_part(decoder: Any) -> None:
    decoder.tail = nn.Identity()


def further_part_of_a_layer(decoder: Any) -> None:
    decoder.middle[1].gate = nn.Identity()


def further_layer(decoder: Any) -> None:
    decoder.head.insert(1, nn.Identity())


def other_mode(decoder: Any) -> None:
    """A layer that changes neither size nor frames, which the hosts' trees have not."""
    last = decoder.upsamples
    last.append(SpatialIdentity())


class SpatialIdentity(nn.Module):
    """As the host's `Resample` in mode `none`."""

    def __init__(self) -> None:
        super().__init__()
        self.mode, self.resample = "none", nn.Identity()

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x


CHANGES: list[Callable[[Any], None]] = [
    other_activation, biased_norm, further_part, further_part_of_a_layer,
    further_layer, other_mode,
]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("change", CHANGES)
@torch.inference_mode()
def test_a_decoder_of_another_structure_is_called_as_a_whole(
    trees: dict[str, Any], name: str, change: Callable[[Any], None]
) -> None:
    tree = copy.deepcopy(trees[name])
    change(tree.decoder)
    decoder, latents = KINDS[name](tree, torch.float32), latents_of(name)
    assert isinstance(decoder._stream, TreeStream)
    whole = tree.decode(denormalise(latents).transpose(0, 1).unsqueeze(0))[0].transpose(0, 1)
    expected = ((whole + 1) / 2).clamp(0, 1)
    for split in SPLITS:
        decoder.reset()
        torch.testing.assert_close(fed(decoder, latents, split), expected, rtol=0, atol=1e-5)


@pytest.fixture
def convolved(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The inputs of the convolutions that run."""
    inputs: list[Tensor] = []
    for kind in (nn.Conv2d, nn.Conv3d):
        note_inputs(monkeypatch, kind, inputs)
    return inputs


def note_inputs(monkeypatch: pytest.MonkeyPatch, kind: Any, inputs: list[Tensor]) -> None:
    convolve = kind._conv_forward

    def note(layer: Any, x: Tensor, *rest: Any, **options: Any) -> Tensor:
        inputs.append(x)
        return convolve(layer, x, *rest, **options)

    monkeypatch.setattr(kind, "_conv_forward", note)


def in_order(x: Tensor) -> bool:
    """As kernels see the order: the strides of axes of length 1 count."""
    return suggest_memory_format(x) in (torch.channels_last, torch.channels_last_3d)


@pytest.mark.parametrize(("kind", "dtype"), [("cuda", torch.bfloat16), ("cpu", torch.float32)])
@pytest.mark.parametrize("name", KINDS)
def test_features_keep_the_order_of_the_device(
    trees: dict[str, Any], convolved: list[Tensor], name: str, kind: str, dtype: torch.dtype
) -> None:
    def decoder(twin: Any) -> Any:
        return KINDS[name](twin, dtype)

    parts = [(2, CHANNELS_OF[name], 2, 3)] * 3
    rehearse(trees[name], dtype, decoder, parts, torch.device(kind))
    first = trees[name].conv2.in_channels  # of latents, which come in PyTorch's order
    inputs = [x for x in convolved if in_order(x) or x.shape[CHANNELS] != first]
    assert len(inputs) > 90 and all(map(in_order, inputs))


@pytest.mark.parametrize(("kind", "dtype"), [("mps", torch.float16), ("cuda", torch.float32)])
def test_features_keep_pytorchs_order_where_no_other_was_measured(
    trees: dict[str, Any], convolved: list[Tensor], kind: str, dtype: torch.dtype
) -> None:
    def decoder(twin: Any) -> WanStreamingDecoder:
        return WanStreamingDecoder(twin, dtype)

    device: Any = SimpleNamespace(type=kind)
    rehearse(trees["2.1"], dtype, decoder, [(2, 16, 2, 3)] * 3, device)
    assert len(convolved) > 90 and not any(map(in_order, convolved))


@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_bfloat16_differs_from_the_tree_by_roundings(trees: dict[str, Any], name: str) -> None:
    tree, latents = copy.deepcopy(trees[name]), latents_of(name)
    exact = fed(KINDS[name](tree, torch.float32), latents, [3, 2])
    tree.to(torch.bfloat16)
    ours = KINDS[name](tree, torch.bfloat16)
    theirs = KINDS[name](tree, torch.bfloat16)
    theirs._stream = TreeStream(tree.decoder)
    apart, usual = (
        (fed(decoder, latents, [3, 2]) - exact).square().mean().sqrt() for decoder in (ours, theirs)
    )
    assert apart < 1.05 * usual < 0.05


@needs_bfloat16
@torch.inference_mode()
def test_a_chunk_takes_no_more_memory_than_through_the_tree(core: Any) -> None:
    """A walk takes the old memory apart while it makes the new one."""
    from longtake.tests.in_core.support.allocation import allocated

    tree, latents = random_tree(core, 24).to(torch.bfloat16), torch.zeros(3, 16, 8, 12)
    ours, theirs = (WanStreamingDecoder(tree, torch.bfloat16) for _ in range(2))
    theirs._stream = TreeStream(tree.decoder)
    assert allocated(ours, latents) <= allocated(theirs, latents)


@pytest.mark.parametrize(("kind", "dtype", "ordered"), [
    pytest.param("cpu", torch.bfloat16, True, marks=needs_bfloat16), ("cpu", torch.float32, False),
    ("cuda", torch.bfloat16, True), ("cuda", torch.float32, False),
])  # fmt: skip
@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoders_large_features_have_the_order_in_half_precision(
    trees: dict[str, Any], convolved: list[Tensor], name: str, kind: str, dtype: torch.dtype,
    ordered: bool,
) -> None:  # fmt: skip
    """In the middle of a stream: at its start, zeros in PyTorch's order come before the past."""
    starts: list[int] = []

    class Encoder(ENCODERS[name]):  # type: ignore[misc, valid-type]
        def feed(self, frames: Tensor) -> Tensor:
            starts.append(len(convolved))
            return super().feed(frames)  # type: ignore[no-any-return]

    parts = [(count, 3, 32, 48) for count in (1, 4, 4, 4)]
    device = torch.device(kind)
    rehearse(trees[name], dtype, lambda tree: Encoder(tree, dtype), parts, device)
    rows = 32 // Encoder.form.spatial_factor
    large = [x for x in convolved[starts[-1] :] if x.shape[-2] > rows]
    assert len(large) > 15 and all(in_order(x) == ordered for x in large)
