// @ts-check
/** Creates elements. Text only ever becomes text nodes and attribute values. */

const SVG = "http://www.w3.org/2000/svg";

/** SVG paths on a 16 x 16 grid. */
const ICONS = {
  play: "M4.5 2.5v11l9-5.5z",
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  replay: "M8 3a5 5 0 1 0 5 5h-1.6A3.4 3.4 0 1 1 8 4.6V7l4-3.2L8 .6z",
  back: "M3 2.5h2v11H3zM13 2.5v11L6 8z",
  forward: "M11 2.5h2v11h-2zM3 2.5v11L10 8z",
  loop: "M4.5 3.2h6A2.8 2.8 0 0 1 13.3 6v1.5h-1.6V6c0-.7-.5-1.2-1.2-1.2h-6v1.9L1.6 4l2.9-2.7zM11.5 12.8h-6A2.8 2.8 0 0 1 2.7 10V8.5h1.6V10c0 .7.5 1.2 1.2 1.2h6V9.3l2.9 2.7-2.9 2.7z",
  camera: "M6 2.5 5 4H2.5C1.7 4 1 4.7 1 5.5v6.5c0 .8.7 1.5 1.5 1.5h11c.8 0 1.5-.7 1.5-1.5V5.5C15 4.7 14.3 4 13.5 4H11l-1-1.5zM8 6a2.7 2.7 0 1 1 0 5.4A2.7 2.7 0 0 1 8 6z",
  film: "M2.5 2.5h11c.6 0 1 .4 1 1v9c0 .6-.4 1-1 1h-11c-.6 0-1-.4-1-1v-9c0-.6.4-1 1-1zM3 4v1.5h1.5V4zm0 3.2v1.6h1.5V7.2zm0 3.3V12h1.5v-1.5zM11.5 4v1.5H13V4zm0 3.2v1.6H13V7.2zm0 3.3V12H13v-1.5zM6 4v8h4V4z",
  full: "M2 2h4.5v1.6h-2.9v2.9H2zM9.5 2H14v4.5h-1.6V3.6H9.5zM2 9.5h1.6v2.9h2.9V14H2zM12.4 9.5H14V14H9.5v-1.6h2.9z",
  fork: "M4.2 1.5a1.9 1.9 0 0 1 .8 3.6v5.8a1.9 1.9 0 1 1-1.6 0V5.1a1.9 1.9 0 0 1 .8-3.6zm7.6 0a1.9 1.9 0 0 1 .8 3.6C12.6 8 9 8 6.6 9.4V7.6C9 6.6 11 6.8 11 5.1a1.9 1.9 0 0 1 .8-3.6z",
  cast: "M1.5 3h13c.6 0 1 .4 1 1v8c0 .6-.4 1-1 1H10v-1.5h4v-7H2V7H.5V4c0-.6.4-1 1-1zM.5 8.5A4.5 4.5 0 0 1 5 13H3.4A2.9 2.9 0 0 0 .5 10.1zM.5 11.4A1.6 1.6 0 0 1 2.1 13H.5z",
  sparkle: "M6 1.5 7.4 6 12 7.5 7.4 9 6 13.5 4.6 9 0 7.5 4.6 6zM12.5 9.5l.8 2.2 2.2.8-2.2.8-.8 2.2-.8-2.2-2.2-.8 2.2-.8zM12.5.5l.7 1.8 1.8.7-1.8.7-.7 1.8-.7-1.8L10 3l1.8-.7z",
  stop: "M3.5 3.5h9v9h-9z",
  edit: "M10.6 2.2 13.8 5.4 6 13.2l-3.8.6.6-3.8zM11.7 1.1l.6-.5c.3-.3.9-.3 1.2 0l1.9 1.9c.3.3.3.9 0 1.2l-.5.6z",
};

/**
 * @param {string} tag
 * @param {Record<string, string|number|boolean|((event: any) => void)>} [attributes] functions
 *   become listeners, `true` an empty attribute
 * @param {...(Node|string)} children
 * @returns {any} the caller states the type
 */
export function element(tag, attributes = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") created.addEventListener(name, value);
    else if (typeof value === "boolean") created.toggleAttribute(name, value);
    else created.setAttribute(name, String(value));
  }
  created.append(...children);
  return created;
}

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return svg;
}

/**
 * Create a button with an icon, and a name for screen readers and the tooltip.
 * @param {keyof typeof ICONS} picture @param {string} name @param {() => void} press
 * @returns {HTMLButtonElement}
 */
export function iconButton(picture, name, press) {
  const button = element("button", { type: "button", class: "lt-icon", click: press }, icon(picture));
  rename(button, picture, name);
  return button;
}

/** Change a button's icon and name. @param {HTMLElement} button
 * @param {keyof typeof ICONS} picture @param {string} name */
export function rename(button, picture, name) {
  if (button.dataset.icon !== picture) button.replaceChildren(icon(picture));
  button.dataset.icon = picture;
  button.title = name;
  button.setAttribute("aria-label", name);
}

/** Keep what is typed into a field from the shortcuts of the page around. A letter with Ctrl is no typing: it saves the
 * workflow, for example. @param {KeyboardEvent} event */
export function keepTyped(event) {
  const { key, ctrlKey, metaKey, altKey } = event;
  const isCommand = (ctrlKey || metaKey) && !altKey && key.length === 1; // Ctrl and Alt type signs on some keyboards
  if (!isCommand) event.stopPropagation();
}

/** Create a button with text. @param {string} text @param {() => void} press @param {string} [look]
 * @returns {HTMLButtonElement} */
export function textButton(text, press, look = "") {
  return element("button", { type: "button", class: `lt-text ${look}`, click: press }, text);
}
