"""Every language says all that the nodes say, nothing else, and keeps names and numbers."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from longtake.tools import locales

FEW_WORDS = 3
NUMBER = re.compile(r"\d+(?:[.,\u202f\u00a0 ]\d+)*")
KEPT = re.compile(
    r"`[^`]+`|\bWan\b|Self-Forcing|Causal-Forcing|LongLive|Diffusion-Forcing|FFV1|JSON|PNG"
)

here = locales.english()
wanted = set(locales.sentences(here))


def numbers(text: str) -> Counter[str]:
    """The numbers in a text, however a language groups their digits and writes the comma."""
    return Counter(re.sub(r"\D", "", number) for number in NUMBER.findall(text))


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_every_text_is_translated(language: str) -> None:
    lacking = sorted(wanted - locales.catalogue(language).keys())
    assert not lacking, f"tools/translations/{language}.json lacks {lacking}"


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_no_translation_is_left_over(language: str) -> None:
    left_over = sorted(locales.catalogue(language).keys() - wanted)
    assert not left_over, f"no node says {left_over}; run python -m longtake.tools.locales"


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_sentences_are_not_left_in_english(language: str) -> None:
    for english, said in locales.catalogue(language).items():
        if len(english.split()) >= FEW_WORDS:
            assert said != english
        assert said.strip()


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_numbers_choices_and_proper_names_are_kept(language: str) -> None:
    for english, said in locales.catalogue(language).items():
        assert numbers(said) == numbers(english), f"{language}: {said}"
        for name in KEPT.findall(english):
            assert name in said, f"{language}: {name} in {said}"


@pytest.mark.parametrize("language", ["en", *locales.LANGUAGES])
def test_the_files_are_what_the_translations_make(language: str) -> None:
    known = {} if language == "en" else locales.catalogue(language)
    made = locales.files(language, locales.translated(here, locales.said_by(known)))
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, "run python -m longtake.tools.locales"


def test_there_are_no_other_languages() -> None:
    folders = {path.name for path in locales.LOCALES.iterdir()}
    assert folders == {"en", *locales.LANGUAGES}
    assert {path.stem for path in locales.TRANSLATIONS.iterdir()} == set(locales.LANGUAGES)
