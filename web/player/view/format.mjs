// @ts-check
/** Formats numbers as text. */

/** Format as minutes and seconds, 0:42. @param {number} seconds */
export function time(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  return seconds < 100 ? `${Math.round(seconds)} s` : time(seconds);
}

/** Format in units of 2^20 bytes, as other tools do. @param {number} bytes */
export function megabytes(bytes) {
  const size = bytes / 2 ** 20;
  if (size >= 1024) return `${(size / 1024).toFixed(1)} GB`;
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} MB`;
}
