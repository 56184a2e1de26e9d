"""Kernels by name: the choice, the reasons, and FlexAttention against stock operations."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest
import torch

from longtake.attention.backends import flex_reason
from longtake.attention.kernels import choice, flex, selected, shares
from longtake.attention.kernels.key_selection import KeySelection
from longtake.attention.layout import AttentionInputs
from longtake.attention.sparse.self_attention import SparseHistory
from longtake.attention.sparse.settings import SparseSelf
from longtake.attention.sparse.stats import SparseStats
from longtake.tests.support.attention.kernel_formula import attend_tokens
from longtake.tests.support.tiny_model import randn

CPU = torch.device("cpu")
KERNELS = Path(choice.__file__).parent
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own
needs_flex = pytest.mark.skipif(flex_reason(CPU) is not None, reason=str(flex_reason(CPU)))


def parts(s: int, t: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """q, k, v (b, n, ., d), with k and v in the memory layout of a cache."""
    k, v = (randn(2, t + 3, 2, 48, seed=i).transpose(1, 2)[:, :, 2:-1] for i in (1, 2))
    return [x.to(dtype) for x in (randn(2, 2, s, 48), k, v)]


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_no_kernel_but_the_portable_one_is_chosen_by_itself(kind: str) -> None:
    device = torch.device(kind)
    name, reason = choice.choose_kernel(choice.AUTO, device)
    assert name == choice.GATHERED and kind in reason
    assert choice.kernel_unavailable_reason(choice.AUTO, device) is None
    assert choice.selected_kernel(choice.AUTO, device) is selected.attend_selected
    for other in choice.NAMES[1:]:
        assert choice.choose_kernel(other, device)[0] == other


def test_why_a_kernel_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert choice.kernel_unavailable_reason(choice.TRITON, CPU) == "triton is not installed"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    assert "NVIDIA" in str(choice.kernel_unavailable_reason(choice.TRITON, CPU))
    assert choice.kernel_unavailable_reason(choice.TRITON, torch.device("cuda")) is None
    with pytest.raises(ValueError, match="kernel must be one of"):
        SparseSelf(kernel="fastest")


def test_sparse_attention_takes_the_kernel_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def named(name: str, device: torch.device) -> choice.AttendSelected:
        asked.append((name, device))
        return selected.attend_selected

    def shares_named(name: str, device: torch.device) -> choice.SumShares:
        asked.append((name, device))
        return shares.sum_shares

    monkeypatch.setattr("longtake.attention.sparse.self_attention.selected_kernel", named)
    monkeypatch.setattr("longtake.attention.sparse.self_attention.shares_kernel", shares_named)
    settings = SparseSelf(0.3, 0.0, (), 0.0, min_keys=0, kernel=choice.TRITON)
    q, k, v = parts(64, 400)
    laid = AttentionInputs(q, k, v, None, 336, ((slice(0, 64), 64),), range(21), 16)
    sparse = SparseHistory(settings, SparseStats(), sink_frames=0, min_keys=0)
    sparse.over(_GivenInputs(laid), [0.9] * 4)(1, q, k, v)
    assert asked == [(choice.TRITON, CPU)] * 2


def test_shares_are_estimated_by_the_kernel_that_attends_but_in_a_rehearsal() -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    from longtake.attention.kernels import triton_shares

    assert choice.shares_kernel(choice.TRITON, CPU) is triton_shares.sum_shares
    for name in (choice.AUTO, choice.GATHERED, choice.FLEX):
        assert choice.shares_kernel(name, CPU) is shares.sum_shares
    assert choice.shares_kernel(choice.TRITON, torch.device("meta")) is shares.sum_shares


class _GivenInputs:
    rows = slice(None)

    def __init__(self, laid: AttentionInputs) -> None:
        self.made = laid

    def gather(self, *_: object) -> AttentionInputs:
        return self.made

    def __call__(self, *_: object) -> torch.Tensor:
        raise AssertionError("dense attention was not asked for")


def test_a_table_of_who_reads_what() -> None:
    """Key 5 is in no block, key 2 is always read, and the second head is not selected."""
    tokens = torch.tensor([[[3, 0], [4, -1], [1, 6]]]).unsqueeze(1).expand(1, 2, -1, -1)
    chosen = torch.tensor([[0], [2]]).expand(1, 2, -1, -1).int()
    read = KeySelection(tokens, chosen, torch.tensor([2]), torch.tensor([0]), torch.tensor([0]))
    table, column = flex.block_table(read), flex.key_columns(read, 7)
    assert table[0, 0].int().tolist() == [[1, 0, 0, 1, 0], [0, 0, 1, 1, 0]]
    assert not table[0, 1].any()
    assert column[0].tolist() == [[0, 2, 3, 0, 1, 4, 2]] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("query_block", [16, 32, 64, 128])
def test_queries_of_a_kernel_of_flex_attention_divide_the_blocks_of_the_mask(
    query_block: int, dtype: torch.dtype
) -> None:
    """On a GPU torch's own choice of 128 does not divide 64, and nothing compiled."""
    assert query_block % flex.kernel_options(dtype, query_block)["BLOCK_M"] == 0


@pytest.mark.parametrize("path", [*KERNELS.glob("triton_*.py")], ids=lambda path: path.stem)
def test_products_in_triton_are_not_rounded_to_tf32(path: Path) -> None:
    """TF32 is Triton's default for float32 on NVIDIA; the interpreter cannot show it."""
    calls = [one for one in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(one, ast.Call) and ast.unparse(one.func) == "tl.dot"]  # fmt: skip
    asked = [{word.arg: ast.unparse(word.value) for word in call.keywords} for call in calls]
    assert all(one.get("input_precision") == "'ieee'" for one in asked)
    assert len(calls) == {"triton_nearest": 0, "triton_selected": 2, "triton_shares": 1}[path.stem]


@needs_flex
@pytest.mark.timeout(1200)
def test_flex_attention_of_a_block_of_queries_that_reads_nothing_is_nothing() -> None:
    q, k, v = parts(130, 301)
    tokens = randn(2, 2, 3, 301, seed=3).argsort(-1)[..., :50].clone()
    tokens[:, 0, 1] = -1  # the middle block, of the first head
    found = attend_tokens(flex.attend_selected, q, k, v, None, tokens, 64)
    assert (found[:, 0, 64:128] == 0).all()
    for head, block in ((1, 1), (0, 0), (0, 2)):
        at = slice(64 * block, 64 * block + 64)
        of_head = [x[:, head : head + 1] for x in (q[:, :, at], k, v)]
        some = tokens[:, head : head + 1, block : block + 1]
        expected = attend_tokens(selected.attend_selected, *of_head, None, some, 64)
        torch.testing.assert_close(found[:, head : head + 1, at], expected, rtol=1e-4, atol=1e-5)
