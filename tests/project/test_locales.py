"""Every language says all that nodes and player say, nothing else, and keeps names and numbers."""

from __future__ import annotations

import json
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
folders = {name: name for name in locales.categories()}
wanted = {*locales.sentences(here), *folders, *locales.player_sentences()}
CODE = re.compile(r"`[^`]*`")
FRACTION = re.compile(r"(?<![\w.,])(?:0\.\d+|\d+\.\d{1,2})(?!\w|[.,]\d)")
THOUSANDS = re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?:,\d{3})+\b")
VERSIONS = {"1.0", "1.1", "2.0", "2.1", "2.2"}  # of LongLive, FlashVSR, LingBot-World and Wan
PLACE = re.compile(r"\{\w+\}")  # where the player puts a value


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


@pytest.mark.parametrize("language", ["de", "es", "fr"])
def test_a_comma_stands_before_a_fraction_and_not_between_thousands(language: str) -> None:
    """But for what a user types, and versions."""
    for said in locales.catalogue(language).values():
        prose = CODE.sub("", said)
        assert set(FRACTION.findall(prose)) <= VERSIONS, said
        assert not THOUSANDS.search(prose), said


@pytest.mark.parametrize("language", ["en", *locales.LANGUAGES])
def test_the_files_are_what_the_translations_make(language: str) -> None:
    known = {} if language == "en" else locales.catalogue(language)
    say = locales.translator(known)
    made = locales.files(
        language, locales.translate_all(here, say), locales.translate_all(folders, say)
    )
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, "run python -m longtake.tools.locales"


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_the_players_words_are_what_the_translations_make(language: str) -> None:
    for path, text in locales.words_file(language, locales.catalogue(language)).items():
        assert path.read_text(encoding="utf-8") == text, "run python -m longtake.tools.locales"


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_values_have_their_places_in_every_translation(language: str) -> None:
    for english, said in locales.catalogue(language).items():
        assert Counter(PLACE.findall(said)) == Counter(PLACE.findall(english)), said


def test_the_player_knows_the_languages_that_there_are() -> None:
    module = (locales.PLAYER / "words.mjs").read_text(encoding="utf-8")
    [listed] = re.findall(r"LANGUAGES = (\[.*\]);", module)
    assert json.loads(listed) == list(locales.LANGUAGES)
    assert {path.stem for path in locales.WORDS.iterdir()} == set(locales.LANGUAGES)


def test_there_are_no_other_languages() -> None:
    folders = {path.name for path in locales.LOCALES.iterdir()}
    assert folders == {"en", *locales.LANGUAGES}
    assert {path.stem for path in locales.TRANSLATIONS.iterdir()} == set(locales.TRANSLATED)


def test_traditional_chinese_has_taiwans_characters_and_words() -> None:
    said = locales.catalogue("zh-TW")
    assert said["Video"] == "影片"  # 视频 in simplified Chinese
    assert said["Load Demo Model"] == "載入演示模型"
