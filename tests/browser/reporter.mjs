// @ts-check
/** Reports every case as one line of JSON: its name, and its failure or null. */

/** @param {AsyncIterable<{type: string, data: any}>} events */
export default async function* reporter(events) {
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    const { error } = data.details;
    const failure = error && String(error.cause?.stack ?? error.stack ?? error);
    yield `${JSON.stringify({ case: data.name, failure: failure ?? null })}\n`;
  }
}
