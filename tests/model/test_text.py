"""The demo's text encoder: known words count, unknown ones are reported, padding is zero."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.model.text import TextEncoder, words_of
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randomise

WORDS = ("a", "red", "ball", "rolls", "left", "right")


def make_encoder(text_len: int = 5) -> TextEncoder:
    """A random encoder of six words."""
    encoder = TextEncoder(WORDS, 8, text_len)
    randomise(encoder, 3)
    return encoder.eval()


def test_the_empty_prompt_is_all_zeros() -> None:
    encoded = make_encoder().encode("")
    assert torch.equal(encoded.embedding, torch.zeros(5, 8))
    assert (encoded.unknown, encoded.dropped) == ((), ())


def test_rows_past_the_words_are_zero_and_the_others_are_not() -> None:
    embedding = make_encoder().encode("red ball").embedding
    assert torch.equal(embedding[2:], torch.zeros(3, 8))
    assert (embedding[:2].norm(dim=1) > 0).all()


def test_case_and_punctuation_do_not_matter() -> None:
    encoder = make_encoder()
    plain, dressed = (encoder.encode(p).embedding for p in ("red ball", "  Red, BALL!  "))
    assert torch.equal(plain, dressed)


def test_order_and_company_matter() -> None:
    encoder = make_encoder()
    red_ball, ball_red, red = (encoder.encode(p).embedding for p in ("red ball", "ball red", "red"))
    assert not torch.allclose(red_ball, ball_red)
    assert not torch.allclose(red_ball[0], red[0])


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("一个红色的球", ("一个红色的球",)),
        ("a größer ball", ("größer",)),
        ("ball 🔥 ball", ("🔥",)),
        ("“ball” — it’s 2 balls…", ("it", "s", "balls")),
    ],
)
def test_words_of_other_scripts_and_pictograms_are_reported(
    prompt: str, unknown: tuple[str, ...]
) -> None:
    assert make_encoder().encode(prompt).unknown == unknown


def test_unknown_words_are_reported_once_and_skipped() -> None:
    encoder = make_encoder()
    encoded = encoder.encode("red zeppelin ball zeppelin quux")
    assert encoded.unknown == ("zeppelin", "quux")
    assert torch.equal(encoded.embedding, encoder.encode("red ball").embedding)


@pytest.mark.parametrize("text", ["a red ball rolls", "a red ball rolls left"])
def test_a_prompt_never_fills_the_text_length_and_what_is_cut_is_reported(text: str) -> None:
    """The model was trained with padding behind every prompt; without any, the picture breaks."""
    encoder = make_encoder(text_len=4)
    encoded = encoder.encode(text)
    assert encoded.dropped == tuple(text.split()[3:])
    assert torch.equal(encoded.embedding, encoder.encode("a red ball").embedding)
    assert not encoded.embedding[3].any()


def test_prompts_in_a_batch_equal_prompts_alone() -> None:
    encoder = make_encoder()
    ids = torch.tensor([[2, 3, 0, 0, 0], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]])
    for row, alone in zip(encoder(ids), ids, strict=True):
        torch.testing.assert_close(row, encoder(alone))


@examples(50)
@given(prompt=st.text(max_size=60))
def test_any_text_is_encoded(prompt: str) -> None:
    encoded = make_encoder().encode(prompt)
    assert encoded.embedding.shape == (5, 8)
    assert encoded.embedding.isfinite().all()


@pytest.mark.parametrize(
    ("text", "words"), [("", []), ("It's 2 Red-balls.", ["it", "s", "red", "balls"])]
)
def test_words_are_runs_of_letters(text: str, words: list[str]) -> None:
    assert words_of(text) == words
