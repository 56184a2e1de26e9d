// @ts-check

/** Call `ours` after an object's own handler. @param {any} owner @param {string} name of the handler
 * @param {(...given: any[]) => void} ours */
export function chain(owner, name, ours) {
  const before = owner[name];
  owner[name] = function (/** @type {any[]} */ ...given) {
    const result = before?.apply(this, given);
    ours(...given);
    return result;
  };
}
