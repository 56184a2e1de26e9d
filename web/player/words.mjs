// @ts-check
/**
 * The player's own words in the viewer's language. `tools/locales.py` finds what the modules
 * say, and writes words/LANGUAGE.json; what the server tells of a run stays in English.
 */

export const LANGUAGES = ["de", "es", "fr", "ja", "ko", "zh"];

/** @type {Record<string, string>} by the English; empty for English itself */
let known = {};

/** Learn a language, before the first player is made; English where there is none such.
 * @param {string} language as ComfyUI's setting or the browser names it */
export async function learn(language) {
  known = {};
  const name = language.toLowerCase().split("-")[0];
  if (!LANGUAGES.includes(name)) return;
  const answer = await fetch(new URL(`./words/${name}.json`, import.meta.url), { cache: "no-cache" });
  if (answer.ok) known = await answer.json();
  else console.warn(`Longtake: the player's words in ${name} could not be read (${answer.status}).`);
}

/** A sentence in that language. @param {string} english with {names} of values
 * @param {Record<string, string|number>} [values] */
export function say(english, values = {}) {
  return (known[english] ?? english).replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}
