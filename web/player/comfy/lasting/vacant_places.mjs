// @ts-check

/**
 * Where the elements of removed nodes were. Nodes 2.0 keeps a node's place on the page when undo makes the node
 * anew, and leaves it empty: it puts a widget's element there only when the place itself is made.
 */
export class VacantPlaces {
  /** By the node's identity; `next` is the element that waits for the place. @type {Map<string, {place: Element, next: Element|null}>} */
  #vacant = new Map();

  /** Note the place of a removed node's element, also of a node that undo removed before its element was placed.
   * @param {string} identity @param {Element} element still in its place */
  leave(identity, element) {
    const place = element.parentElement ?? this.#vacant.get(identity)?.place;
    if (place) this.#vacant.set(identity, { place, next: null });
  }

  /** Put the element of a node that was made anew where the old one was, if the host leaves the place empty for two
   * frames. @param {string} identity @param {Element} element */
  fill(identity, element) {
    const vacant = this.#vacant.get(identity);
    if (!vacant || vacant.next === element) return;
    vacant.next = element;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      if (this.#vacant.get(identity)?.next !== element) return; // its node is gone already
      this.#vacant.delete(identity);
      const { place } = vacant;
      if (!element.isConnected && place.isConnected && !place.firstChild) place.append(element);
    }));
  }
}
