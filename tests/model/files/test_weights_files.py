"""Whatever is in a weights file, it is read lazily or refused in one sentence, and never run."""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.model.checkpoint import load_dit, open_checkpoint
from longtake.model.files.header import main_dtype
from longtake.model.files.weights import open_weights
from longtake.tests.support.model.family_files import (
    SMALL,
    header_only,
    official_shapes,
    state,
)

resource = pytest.importorskip("resource")  # not on Windows
SMALL_SHAPES = {name: tuple(tensor.shape) for name, tensor in state().items()}
HEADER_OF_A_MODEL = {"a.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def sentence(path: Path) -> str:
    """The refusal: one sentence with the file's name."""
    with pytest.raises(BadInput) as caught:
        open_checkpoint(path)
    message = str(caught.value)
    assert path.name in message and message.endswith(".") and "\n" not in message
    return message


def safetensors_bytes(header: object, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


BROKEN_HEADERS: list[bytes] = [
    b"",
    b"\xff" * 4,
    struct.pack("<Q", 2**63) + b"{}",
    struct.pack("<Q", 90_000_000) + b"{}",
    safetensors_bytes(b"{" + b"[" * 200_000),
    safetensors_bytes(b"\xff\xfe{}"),
    safetensors_bytes([]),
    safetensors_bytes({"a": 1}),
    safetensors_bytes({"a": {"dtype": "F32", "shape": [2]}}),
    safetensors_bytes({"a": {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}}),
    safetensors_bytes({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}),
    safetensors_bytes({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}),
    safetensors_bytes({"a": {"dtype": "F32", "shape": "xx", "data_offsets": [0, 8]}}),
    safetensors_bytes({**HEADER_OF_A_MODEL, "__metadata__": 3}),
    safetensors_bytes(HEADER_OF_A_MODEL, b"\0"),
    safetensors_bytes(HEADER_OF_A_MODEL, b"\0" * 9),
    safetensors_bytes({"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}),
    safetensors_bytes({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0.0, 8.0]}}),
    safetensors_bytes({"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}}),
    safetensors_bytes({n: HEADER_OF_A_MODEL["a.weight"] for n in "ab"}),
    safetensors_bytes({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}),
    safetensors_bytes({"a" * 501: HEADER_OF_A_MODEL["a.weight"]}),
    safetensors_bytes(b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},' * 1
                      + b'"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}'),
]  # fmt: skip


@pytest.mark.parametrize("content", BROKEN_HEADERS, ids=range(len(BROKEN_HEADERS)))
def test_a_broken_header_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    assert "no Wan-family model" not in sentence(path)


MANY = 400_000
CLAIMS: dict[str, Callable[[], Mapping[str, tuple[int, ...]]]] = {
    "a block far away": lambda: {**SMALL_SHAPES, "blocks.3000000000.modulation": (1,)},
    "very many names": lambda: {f"n{i}": (0,) for i in range(MANY)},
    "very many copies": lambda: {f"n{i}.blocks.0.self_attn.q.weight": (0,) for i in range(29_000)},
    "very many axes": lambda: {"blocks.0.self_attn.q.weight": (1,) * 100_000},
    "a very large table": lambda: {**SMALL_SHAPES, "head.modulation": (0, 2, 10**15)},
}


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("claim", CLAIMS)
def test_whatever_a_header_claims_is_answered_at_once(tmp_path: Path, claim: str) -> None:
    path = header_only(tmp_path / "file.safetensors", CLAIMS[claim]())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    sentence(path)
    assert time.process_time() - start < 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB


def test_a_tensor_larger_than_what_a_pickle_stores_of_it_is_refused(tmp_path: Path) -> None:
    """Strides of 0 make one number a tensor of any size."""
    for number, tensor in enumerate((torch.zeros(1).expand(10**12), torch.zeros(2, device="meta"))):
        path = tmp_path / f"{number}.pt"
        torch.save({"a": tensor}, path)
        assert "and fewer numbers" in sentence(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".gguf"])
def test_random_damage_never_gets_past_the_border(tmp_path: Path, suffix: str) -> None:
    """Cut anywhere or with bytes changed, a file loads whole, or is refused in a sentence; whatever
    sizes it then claims, memory does not follow.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path, whole = tmp_path / f"file{suffix}", tmp_path / f"whole{suffix}"
    write(whole)
    content, chance = whole.read_bytes(), random.Random(0)
    for attempt in range(60):
        damaged = bytearray(content)
        if attempt % 2:
            del damaged[chance.randrange(len(damaged)) :]
        for _ in range(0 if attempt % 4 == 1 else 8):
            if damaged:
                damaged[chance.randrange(min(len(damaged), 4000))] = chance.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            open_checkpoint(path)
        except BadInput as error:
            assert str(error).endswith(".") and "\n" not in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def write(path: Path) -> None:
    """A small whole model in the container that the suffix names."""
    if path.suffix == ".pt":
        torch.save({"generator": state()}, path)
    elif path.suffix == ".gguf":
        gguf(path, {name: tuple(tensor.shape) for name, tensor in state().items()})
    else:
        save_file(state(), path)


class Exploit:
    """What a pickle could do if it were run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("pwned"),)  # type: ignore[return-value]


@pytest.mark.parametrize("where", ["value", "key"])
def test_code_in_a_pickle_is_named_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"generator": state(), "x": Exploit()} if where == "value" else Exploit()
    torch.save(content, tmp_path / "model.pt")
    message = sentence(tmp_path / "model.pt")
    assert "which is code and not weights; nothing of it was run" in message
    assert "weights_only" not in message and not (tmp_path / "pwned").exists()


def test_pickles_that_are_no_pytorch_zip_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"a": 1}))
    assert "no other pickles" in sentence(path)
    torch.save(state(), path, _use_new_zipfile_serialization=False)
    assert "no other pickles" in sentence(path)


MISTAKEN = [  # what a file begins with, and what it is
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS"),
    (b"<!DOCTYPE html>\n<html><body>Access denied</body></html>", "is a web page"),
    (b"\n<html lang=en><body>404</body></html>", "is a web page"),
    (b"\xef\xbb\xbf<!DOCTYPE html>", "is a web page"),
    (b"Entry not found", "is an answer of a server; download the file itself"),
    (b'{"error":"Invalid username or password."}', "is an answer of a server"),
    (b"PK\x03\x04" + b"\0" * 200, "is a zip file, as PyTorch's are"),
    (b"GGUF" + b"\3\0\0\0" + b"\0" * 60, "is a GGUF file; rename it to .gguf"),
    (struct.pack("<Q", 2) + b"{}", "is a safetensors file; rename it"),
]


@pytest.mark.parametrize(("content", "what"), MISTAKEN, ids=lambda x: str(x)[:20])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".gguf"])
def test_a_file_that_is_something_else_is_named(
    tmp_path: Path, content: bytes, what: str, suffix: str
) -> None:
    own = {".pt": b"PK", ".gguf": b"GGUF", ".safetensors": b"\2\0"}[suffix]
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    if not content.startswith(own):
        assert what in sentence(path)


def test_numbers_of_numpy_beside_the_weights_are_no_code(tmp_path: Path) -> None:
    """By the names of numpy 2, and of numpy 1, which most published files were made with."""
    numbers = {kind: np.dtype(kind).type(1) for kind in ("f8", "f4", "i8", "u1", "b1", "f2")}
    path = tmp_path / "self_forcing.pt"
    torch.save({"model": state(), "numbers": numbers}, path)
    assert open_checkpoint(path).recognition.family.key == "self-forcing"
    old = tmp_path / "old.pt"
    with zipfile.ZipFile(path) as new, zipfile.ZipFile(old, "w", zipfile.ZIP_STORED) as archive:
        for entry in new.namelist():
            data = new.read(entry)
            archive.writestr(entry, data.replace(b"numpy._core.", b"numpy.core."))
    assert open_checkpoint(old).recognition.family.key == "wan21-t2v"


def test_weights_after_a_long_optimizer_state_are_read(tmp_path: Path) -> None:
    """Trainers that name parameters write a dictionary for each of them, of two optimizers."""
    steps = {f"p{i}.weight": {"exp_avg": torch.zeros(1)} for i in range(1100)}
    path = tmp_path / "self_forcing.pt"
    torch.save({"optimizer": {"state": steps}, "generator": state()}, path)
    assert open_checkpoint(path).infos().keys() == state().keys()


def test_all_lists_of_tensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "lists.pt"
    torch.save({name: [torch.zeros(1)] for name in "abcdef"}, path)
    assert [*open_weights(path).header.tensors] == [f"{name}.0" for name in "abcdef"]


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 100_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "compressed entry" in sentence(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


def test_reading_a_header_of_any_size_takes_no_memory(tmp_path: Path) -> None:
    """A 28 GB file whose data is a hole; so is a pickle's: both are mapped, never read."""
    path = header_only(tmp_path / "Wan2_1-T2V-14B.safetensors", official_shapes("14B"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    header = open_weights(path).header
    assert header.stored_bytes > 28e9 and main_dtype(header.tensors) == "BF16"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


def test_swapped_shapes_are_named(tmp_path: Path) -> None:
    weights = state()
    a, b = "blocks.1.ffn.0.weight", "blocks.1.ffn.2.weight"
    weights[a], weights[b] = weights[b], weights[a]
    save_file(weights, tmp_path / "x.safetensors")
    assert f"{a} is [256, 48] where the other tensors ask for [48, 256]" in sentence(
        tmp_path / "x.safetensors"
    )


def test_a_missing_block_is_named(tmp_path: Path) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in state().items()}
    shapes["blocks.3.modulation"] = (1, 6, SMALL.dim)
    message = sentence(header_only(tmp_path / "x.safetensors", shapes))
    assert "no whole 4-layer Wan model: it has no blocks.2.modulation and 52 more" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    weights = state()
    weights["blocks.1.cross_attn.v.weight"][3, 5] = value
    save_file(weights, tmp_path / "x.safetensors")
    with pytest.raises(BadInput, match=r"has NaN or infinity in blocks\.1\.cross_attn\.v\.weight"):
        load_dit(tmp_path / "x.safetensors")


def test_a_file_that_ends_in_zeros_is_no_whole_download(tmp_path: Path) -> None:
    """A download that reserves its room first, and is cut short, has the right size."""
    path = tmp_path / "x.safetensors"
    save_file(state(), path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    with pytest.raises(BadInput, match=r"nothing but zeros in blocks\.1\.\S+; download it again"):
        load_dit(path)


def test_other_suffixes_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    assert "is no weights file that Longtake opens" in sentence(tmp_path / "model.bin")
    assert "is not there" in sentence(tmp_path / "none.safetensors")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no .safetensors file; give the path of a weights file" in sentence(empty)
    if os.name == "posix":
        assert "is neither a file nor a folder" in sentence(Path(os.devnull))


def test_an_index_may_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    assert "outside its folder" in sentence(index)
    index.write_text("[1, 2]")
    assert "no index of safetensors shards" in sentence(index)


def gguf(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    kind: int = 12,
    original: Mapping[str, tuple[int, ...]] | None = None,
    missing: int = 0,
) -> Path:
    """A GGUF file, version 3, written by hand: Q4_K matrices, the rest F32; the data is a hole."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    entries = [
        text("general.architecture") + struct.pack("<I", 8) + text("wan"),
        text("general.quantization_version") + struct.pack("<II", 4, 2),
        *(
            text(f"comfy.gguf.orig_shape.{name}")
            + struct.pack(f"<IIQ{len(shape)}i", 9, 5, len(shape), *shape)
            for name, shape in (shapes if original is None else original).items()
            if len(shape) > 4 or original is not None
        ),
    ]
    infos, at = [], 0
    for name, shape in shapes.items():
        numbers = torch.Size(shape).numel()
        stored = (shape[0], numbers // shape[0]) if len(shape) > 4 else shape
        quantised = kind if len(shape) == 2 and shape[1] % 256 == 0 else 0
        infos.append(
            text(name)
            + struct.pack(f"<I{len(stored)}Q", len(stored), *reversed(stored))
            + struct.pack("<IQ", quantised, at)
        )
        at += -(-(numbers // 256 * 144 if quantised else 4 * numbers) // 32) * 32
    header = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(entries))
    path.write_bytes(header + b"".join([*entries, *infos]))
    with path.open("r+b") as file:
        file.truncate(-(-path.stat().st_size // 32) * 32 + at - missing)
    return path


BROKEN_JSON = ["[1]", "{", "3", '"x"', "[" * 100_000, '{"layers": [1]}', '{"layers": null}']


@pytest.mark.parametrize("content", BROKEN_JSON, ids=lambda text: text[:9])
def test_a_broken_list_of_quantised_layers_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.safetensors"
    header_only(path, SMALL_SHAPES, _quantization_metadata=content)
    assert "its `_quantization_metadata` metadata is not the JSON object" in sentence(path)


def test_a_config_without_an_object_for_the_transformer_is_passed_over(tmp_path: Path) -> None:
    path = header_only(tmp_path / "x.safetensors", SMALL_SHAPES, config='{"transformer": [1]}')
    assert open_checkpoint(path).metadata().keys() == {"config"}


def test_whole_numbers_without_their_scales_are_refused(tmp_path: Path) -> None:
    path = header_only(tmp_path / "x.safetensors", SMALL_SHAPES, "U8")
    assert "as U8 without its scale" in sentence(path)


@pytest.mark.parametrize("shape", [(-1, -64), (1, 2, 3), (), (2,) * 9])
def test_a_wrong_original_shape_in_a_gguf_is_refused(tmp_path: Path, shape: tuple[int]) -> None:
    path = gguf(tmp_path / "x.gguf", {"a": (8, 8)}, original={"a": shape})
    assert "the original shape of a is" in sentence(path)


def test_a_gguf_without_its_data_or_of_an_unknown_type_is_refused(tmp_path: Path) -> None:
    shapes = {"a": (256, 256)}
    assert "cut short by" in sentence(gguf(tmp_path / "x.gguf", shapes, missing=100))
    assert "as ggml type 77" in sentence(gguf(tmp_path / "x.gguf", shapes, kind=77))


def test_an_endless_gguf_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """30,000 entries of a million letters: a hole in the file, 30 GB in memory."""
    path = tmp_path / "x.gguf"
    entry = struct.pack("<Q", 0) + struct.pack("<IQ", 8, 1_000_000)
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 20_000))
        for _ in range(20_000):
            file.write(entry)
            file.seek(1_000_000, 1)
    start = time.process_time()
    sentence(path)
    assert time.process_time() - start < 3


def test_a_gguf_file_is_recognised_and_sent_to_its_own_loader(tmp_path: Path) -> None:
    shapes = official_shapes("14B")
    opened = open_checkpoint(gguf(tmp_path / "self_forcing_14b-Q4_K.gguf", shapes))
    assert opened.recognition.family.key == "self-forcing"
    assert main_dtype(opened.recognition.header.tensors) == "Q4_K"
    assert 7e9 < opened.recognition.header.stored_bytes < 9e9  # 4.5 bits a weight
    with pytest.raises(BadInput, match=r"its MODEL to Set Model Family"):
        opened.read("head.modulation")
