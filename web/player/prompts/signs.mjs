// @ts-check

/** Signs that a keyboard for Chinese or Japanese types, by their narrow forms. @type {Record<string, string>} */
const NARROW = { "：": ":", "（": "(", "）": ")", "，": ",", "、": ",", "．": "." };
/** Marks that no one sees, as web pages copy. */
const UNSEEN = /[\u200b\u200e\u200f\u061c\u2060\u2066-\u2069\ufeff]/g;

const WIDE_DIGITS = /[\uff10-\uff19]/g; // typed by the same keyboards
const TO_NARROW = 0xfee0;

/** Return a line in which every sign and digit of a timeline has its narrow form, and unseen marks are blanks. It is as
 * long as before. @param {string} line */
export function narrow(line) {
  return line
    .replace(/[：（），、．]/g, (sign) => NARROW[sign])
    .replace(WIDE_DIGITS, (digit) => String.fromCharCode(digit.charCodeAt(0) - TO_NARROW))
    .replace(UNSEEN, " ");
}
