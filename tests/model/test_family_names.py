"""Names that look like a family's and are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.model.families.recognise import recognise
from longtake.model.files.weights import open_weights
from longtake.tests.support.model.family_files import header_only, official_shapes


@pytest.mark.parametrize(("name", "key"), [
    ("NSFWan_v1", "wan21-t2v"),  # not FastVideo's SFWan
    ("nsfwan2.2_high", "wan22-a14b"),
    ("SFWan2.1", "self-forcing"),
    ("wan-solar-diffusion", "wan21-t2v"),
    ("chunkwise/ar_diffusion", "causal-forcing-ar"),
    ("krea/diffusion_models/wan2.1", "wan21-t2v"),  # a folder of all models names none
    ("causvid/unet/mine/wan2.1", "wan21-t2v"),
    ("diffusion_models/krea/wan2.1", "krea-realtime"),
])  # fmt: skip
def test_a_family_is_named_by_whole_words_below_the_hosts_folder(
    tmp_path: Path, name: str, key: str
) -> None:
    path = header_only(tmp_path / "x" / f"{name}.safetensors", official_shapes("1.3B", 2))
    assert recognise(open_weights(path).header).family.key == key
