// @ts-check
/**
 * The player's texts in the viewer's language. `tools/locales.py` collects the English texts from
 * the modules and writes words/LANGUAGE.json. Messages from the server stay in English.
 */

export const LANGUAGES = ["de", "es", "fr", "ja", "ko", "zh", "zh-TW"];

/** Translations by English text; empty for English. @type {Record<string, string>} */
let translations = {};

/** Load a language before the first player is created, and return its name. An unknown language means English.
 * @param {string} language in the form of ComfyUI's setting or the browser's */
export async function loadWords(language) {
  translations = {};
  const name = nameOf(language);
  if (!LANGUAGES.includes(name)) return "en";
  const answer = await fetch(new URL(`./words/${name}.json`, import.meta.url), { cache: "no-cache" });
  if (answer.ok) {
    translations = await answer.json();
    return name;
  }
  console.warn(`Longtake: the player's translation "${name}" could not be loaded (${answer.status}).`);
  return "en";
}

/** Return the name of a language without its country; Chinese is in two scripts.
 * @param {string} language */
export function nameOf(language) {
  const [name, ...places] = language.toLowerCase().split("-");
  if (name !== "zh" || places.includes("hans")) return name;
  return places.some((place) => ["tw", "hk", "mo", "hant"].includes(place)) ? "zh-TW" : name;
}

/** Translate a text and insert its values. @param {string} english with {names} of values
 * @param {Record<string, string|number>} [values] */
export function translate(english, values = {}) {
  return (translations[english] ?? english).replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}
