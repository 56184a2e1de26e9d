// @ts-check
/** @import { Stats } from "../types.mjs" */
import { duration } from "../view/format.mjs";
import { translate } from "../words.mjs";

/** The latency figures that are known: name, value, meaning. docs/reference/latency.md defines them.
 * @param {Stats} stats @returns {[string, string, string][]} */
export function latencies(stats) {
  /** @type {[string, number|null|undefined, (value: number) => string, string][]} */
  const figures = [
    [translate("first chunk"), stats.first_frame_s, duration, translate("From the start of the run to the first chunk")],
    [translate("block latency"), stats.block_latency_s, duration,
      translate("From the moment a chunk reads the controls to its pictures")],
    [translate("real-time factor"), stats.real_time_factor, (factor) => factor.toFixed(2),
      translate("Seconds of work for a second of video; up to 1 plays live")],
    [translate("generator and stage"), stats.stage_factor, (factor) => `${(stats.generator_factor ?? 0).toFixed(2)} + ${factor.toFixed(2)}`,
      translate("Seconds of work for a second of video: the generator's, and those of what enlarges or refines it")],
    [translate("continuous play"), stats.continuous_play_rate, (share) => `${Math.floor(100 * share + 1e-9)} %`,
      translate("Share of the chunks that come before a viewer needs them")],
    [translate("switch cost"), stats.switch_cost_s, extra,
      translate("How much longer a chunk takes with another prompt or a live edit")],
  ];
  return figures.flatMap(([name, value, write, meaning]) =>
    value == null ? [] : [/** @type {[string, string, string]} */ ([name, write(value), meaning])]);
}

/** Seconds on top of the usual ones; a chunk that came sooner than usual takes none. @param {number} seconds */
function extra(seconds) {
  return seconds < 0.005 ? duration(0) : `+${duration(seconds)}`;
}
