"""Names that look like a family's and are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.errors import BadInput
from longtake.model.families.few_steps import few_step_warning
from longtake.model.families.recognise import AUTO, Recognition, recognise
from longtake.model.files.weights import open_weights
from longtake.tests.support.model.family_files import header_only, official_shapes


def recognise_named(folder: Path, name: str, family: str = AUTO, size: str = "1.3B") -> Recognition:
    """What a file of Wan 2.1's tensors with this name is taken for."""
    path = header_only(folder / "x" / f"{name}.safetensors", official_shapes(size))
    return recognise(open_weights(path).header, family=family)


@pytest.mark.parametrize(("name", "key"), [
    ("NSFWan_v1", "wan21-t2v"),  # not FastVideo's SFWan
    ("nsfwan2.2_high", "wan22-a14b"),
    ("SFWan2.1", "self-forcing"),
    ("wan-solar-diffusion", "wan21-t2v"),
    ("chunkwise/ar_diffusion", "causal-forcing-ar"),
    ("krea/diffusion_models/wan2.1", "wan21-t2v"),  # a folder of all models names none
    ("causvid/unet/mine/wan2.1", "wan21-t2v"),
    ("diffusion_models/causvid/wan2.1", "causvid"),
    ("CausVid/bidirectional_checkpoint2/model", "wan21-t2v"),  # a stage that is not causal
])  # fmt: skip
def test_a_family_is_named_by_whole_words_below_the_hosts_folder(
    tmp_path: Path, name: str, key: str
) -> None:
    assert recognise_named(tmp_path, name).family.key == key


@pytest.mark.parametrize(("name", "key", "large"), [
    ("diffusion_models/krea/wan2.1", "wan21-t2v", "krea-realtime"),
    ("self_forcing_dmd_krea", "self-forcing", "krea-realtime"),
])  # fmt: skip
def test_no_name_makes_a_model_one_of_a_family_of_another_size(
    tmp_path: Path, name: str, key: str, large: str
) -> None:
    assert recognise_named(tmp_path, name).family.key == key
    assert recognise_named(tmp_path, name, size="14B").family.key == large
    assert recognise_named(tmp_path, name, large).family.key == large  # as a user chose


@pytest.mark.parametrize("name", [
    "FlashVSR/diffusion_pytorch_model_streaming_dmd", "Wan2_1-T2V-1_1_3B-FlashVSR_fp32",
])  # fmt: skip
def test_flashvsr_is_not_run_as_a_generator(tmp_path: Path, name: str) -> None:
    """Its transformer has the tensors of a plain Wan 2.1."""
    with pytest.raises(
        BadInput, match=r"is FlashVSR by its name.*choose it in the loader of FlashVSR"
    ):
        recognise_named(tmp_path, name)
    assert recognise_named(tmp_path, name, "wan21-t2v").family.key == "wan21-t2v"


@pytest.mark.parametrize(("name", "word"), [
    ("Wan14BT2VFusioniX_fp16", "fusionix"),
    ("wan2.1_t2v_14B_lightning_merge", "lightning"),
    ("Wan2.2-T2V-A14B-Lightning-high", "lightning"),  # its row is Wan 2.2's, by its name
    ("wan2.2-rapid-mega-aio", "rapid"),
    ("wan2.1-rCM-merged", "rcm"),
    ("wan_dmd2_8steps", "dmd2"),
    ("my-wan-8steps", "8steps"),
    ("CausVid/bidirectional_checkpoint2/model", "causvid"),
])  # fmt: skip
def test_a_name_that_says_few_steps_is_told_where_the_family_takes_many(
    tmp_path: Path, name: str, word: str
) -> None:
    model = recognise_named(tmp_path, name)
    assert few_step_warning(model).startswith(f"Its name has {word!r}, so it may be distilled")
    assert "cfg 1" in few_step_warning(model) and "stepdistill-t2v" in few_step_warning(model)
    chosen = recognise_named(tmp_path, name, "wan21-t2v")
    assert few_step_warning(chosen) == ""


@pytest.mark.parametrize("name", [
    "wan2.1_t2v_14B", "wan-undistilled", "wanSVICamera_nolightningQ8",
    "wan_20000_steps", "wan_step_4", "admdx_wan",
    "self_forcing_dmd", "wan2.1_t2v_14b_lightx2v_4step", "causvid",  # of a few-step family
])  # fmt: skip
def test_no_other_name_is_doubted(tmp_path: Path, name: str) -> None:
    assert few_step_warning(recognise_named(tmp_path, name)) == ""


def test_an_image_model_s_name_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "x" / "Wan_i2v_CausVid.safetensors"
    header_only(path, official_shapes("I2V-14B"))
    assert "'causvid'" in few_step_warning(recognise(open_weights(path).header))
