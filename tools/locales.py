"""Write locales/ and the player's translations.

English comes from the nodes' definitions and the player's `translate` calls. Other languages come
from `tools/translations/LANGUAGE.json`, which maps every English text to its translation. OpenCC
makes traditional Chinese, as written in Taiwan, from simplified Chinese.

    python -m longtake.tools.locales

writes all files and lists missing translations. A changed English text is a new text; its old
translation is dropped.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opencc import OpenCC

from ..headless.hosts.stand_in import host_modules
from ..machine.temporary_files import write_whole
from ..nodes.categories import ALL

ROOT = Path(__file__).resolve().parents[1]
LOCALES = ROOT / "locales"
TRANSLATIONS = ROOT / "tools" / "translations"
PLAYER = ROOT / "web" / "player"
WORDS = PLAYER / "words"
TRANSLATE_CALL = re.compile(r"(?<![#.\w])translate\(\s*\"((?:[^\"\\]|\\.)*)\"")  # in JavaScript
TRANSLATED = ("de", "es", "fr", "ja", "ko", "zh")
CONVERTED = {"zh-TW": ("zh", OpenCC("s2twp"))}  # a language: what it is made from, and by what
LANGUAGES = (*TRANSLATED, *CONVERTED)

Definitions = dict[str, Any]
Catalogue = dict[str, str]


def english() -> Definitions:
    """Return the nodes' definitions in English, in the form of nodeDefs.json."""
    with tempfile.TemporaryDirectory() as folder, host_modules(Path(folder), lambda event: None):
        from ..nodes.extension import NODES

        return {s.node_id: _node(s) for s in (node.define_schema() for node in NODES)}


def sentences(definitions: Definitions) -> Iterator[str]:
    """Yield every text in the definitions, in order and with repetitions."""
    for value in definitions.values():
        if isinstance(value, dict):
            yield from sentences(value)
        else:
            yield value


def categories() -> list[str]:
    """Return the folder names of this pack in ComfyUI's node menu."""
    return list(dict.fromkeys(name for path in ALL for name in path.split("/")))


def player_sentences() -> list[str]:
    """Return every text of the player's modules, in the modules' order."""
    modules = sorted(PLAYER.rglob("*.mjs"))
    texts = (path.read_text(encoding="utf-8") for path in modules)
    return list(
        dict.fromkeys(sentence for text in texts for sentence in TRANSLATE_CALL.findall(text))
    )


def player_words(known: Catalogue) -> dict[str, str]:
    """Return the player's translations from a catalogue, without missing ones."""
    return {text: known[text] for text in player_sentences() if text in known}


def translate_all(definitions: Definitions, translate: Callable[[str], str]) -> Definitions:
    """Return the definitions with every text translated by `translate`."""
    return {
        key: translate_all(value, translate) if isinstance(value, dict) else translate(value)
        for key, value in definitions.items()
    }


def translator(known: Catalogue) -> Callable[[str], str]:
    """Return a function that translates with a catalogue; missing texts stay English."""
    return lambda text: known.get(text, text)


def catalogue(language: str) -> Catalogue:
    """Return the translations of a language by English text."""
    if language in CONVERTED:
        source, converter = CONVERTED[language]
        return {english: converter.convert(said) for english, said in catalogue(source).items()}
    text = (TRANSLATIONS / f"{language}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def files(language: str, definitions: Definitions, folders: Definitions) -> dict[Path, str]:
    """Return the content of a language's files below `locales`; `folders` names categories."""
    place, main = LOCALES / language, {"nodeCategories": folders}
    return {place / "nodeDefs.json": _json(definitions), place / "main.json": _json(main)}


def words_file(language: str, known: Catalogue) -> dict[Path, str]:
    """Return the content of the player's file of a language."""
    return {WORDS / f"{language}.json": _json(player_words(known))}


def main() -> int:
    """Write all files; return 1 if a translation is missing."""
    definitions = english()
    folders = {name: name for name in categories()}
    texts = list(dict.fromkeys([*sentences(definitions), *folders, *player_sentences()]))
    _write(files("en", definitions, folders))
    missing = 0
    for language in TRANSLATED:
        known = catalogue(language)
        for text in texts:
            if text not in known:
                missing += 1
                sys.stdout.write(f"missing in {language}.json: {json.dumps(text)}\n")
        used = {text: known[text] for text in texts if text in known}
        _write({TRANSLATIONS / f"{language}.json": _json(used)})
    for language in LANGUAGES:
        known = catalogue(language)
        translate = translator(known)
        _write(
            files(
                language, translate_all(definitions, translate), translate_all(folders, translate)
            )
        )
        _write(words_file(language, known))
    return int(missing > 0)


def _node(schema: Any) -> Definitions:
    inputs = {declared.id: {"name": declared.display_name or declared.id,
                            "tooltip": declared.tooltip}
              for declared in schema.inputs}  # fmt: skip
    outputs = {str(number): _output(output) for number, output in enumerate(schema.outputs)}
    names = {"display_name": schema.display_name, "description": schema.description}
    return {**names, "inputs": inputs, "outputs": outputs}


def _output(declared: Any) -> Definitions:
    tooltip = {"tooltip": declared.tooltip} if declared.tooltip else {}
    return {"name": declared.display_name or declared.get_io_type(), **tooltip}


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _write(contents: dict[Path, str]) -> None:
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)


if __name__ == "__main__":
    raise SystemExit(main())
