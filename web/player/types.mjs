// @ts-check
/**
 * The server's messages, as JSON (see stream/preview/messages.py).
 *
 * @typedef {"waiting"|"running"|"paused"|"stopping"|"stopped"|"done"|"interrupted"|"error"} State
 * @typedef {{seq: number, first_frame: number, count: number, bytes: number,
 *   prompt?: number|null, recalled?: [number, number][]}} ChunkInfo  `prompt` is an index into
 *   `prompt_changes`; `recalled` are the earlier frames that were fetched to make the chunk
 * @typedef {{frame: number, text: string, edited: boolean}} PromptChange
 * @typedef {{status: "queued"|"encoding"|"applied"|"failed", text: string|null,
 *   over_s?: number|null, guidance: number|null, lora: number|null, strength?: number|null, level?: number|null, seed?: number|null, first_frame: number|null, start_s: number|null, line: string|null,
 *   error: string|null}} Edit
 * @typedef {{first_frame_s?: number|null, frames_per_s?: number|null, eta_s?: number|null,
 *   chunk_p95_s?: number|null, kv_bytes?: number|null, kv_bytes_planned?: number|null,
 *   block_latency_s?: number|null, real_time_factor?: number|null, generator_factor?: number|null, stage_factor?: number|null, continuous_play_rate?: number|null,
 *   switch_cost_s?: number|null, drift?: number|null, resumed_from_s?: number|null, dense_fallbacks?: number|null,
 *   attention_density?: number|null, ann_recall?: number|null,
 *   paused_s?: number|null, kv_on_host?: boolean, memory_rules?: string|null, live_dropped?: number|null,
 *   guidance?: number|null, lora?: number|null}} Stats  `guidance` and `lora` are those of the newest chunk
 * @typedef {{frames: number|null, seconds: number|null, chunks: number|null, kv_bytes: number,
 *   free_bytes: number, fits: boolean, text: string, decode_bytes?: number|null, decode_device?: string|null}} Plan
 * @typedef {{filename: string, subfolder: string, type: string, role: string}} SavedFile
 * @typedef {{kind: "webcam"|"screen", width: number, height: number, fps: number}} Wish  pictures that a run wants of this page
 * @typedef {{driver: string|null, mode: "hold"|"re-plan"|"history", motion: string, frame: number|null, number: number,
 *   start_s: number|null, replanned?: number}} DriveInfo  what the camera's driver does; see stream/drive/drive.py
 * @typedef {{v?: number, take: string, node_id: string|null, display_node_id: string|null,
 *   prompt_id: string|null, workflow_id: string|null, control_rev: number, live?: string, state: State,
 *   fps: number, width: number, height: number, total_frames: number|null,
 *   prompt_changes: PromptChange[], edits: Edit[], stats: Stats, resume_at_s: number|null,
 *   message: string|null, plan: Plan|null, files: SavedFile[], drive: DriveInfo|null,
 *   wish?: Wish|null, fork_seed?: number|null, refined?: string|null, refines?: string|null}} TakeInfo  `fork_seed` waits
 *   for the next fork; `refined` is the take that shows the same frames larger or finer; `refines` is the
 *   take whose frames this one shows so
 *
 * @typedef {{request: (path: string, init?: RequestInit) => Promise<Response>,
 *   fileUrl: (file: SavedFile) => string|null,
 *   url?: (path: string) => string}} Server  access to the server's routes; `url` gives a route's address for other programs
 * @typedef {import("./takes/library.mjs").Session} Session
 * @typedef {object} Place  callbacks of the page around a player. Callbacks that return text return an error
 *   message, or null; without a callback the player does not offer what it does
 * @property {() => string} emptyHint what to do for a first video
 * @property {() => string} lostHint what to do when a run's server does not answer
 * @property {((session: Session, line: string) => string|null)|null} keepLine writes an edit into the workflow
 * @property {(session: Session, line: string) => boolean} [isKept] whether the workflow contains an edit
 * @property {((session: Session, lines: string[]) => string|null)|null} [keepDrive] writes a drive into the workflow
 * @property {{read: () => string, write: (text: string) => void}} [prepared] keeps the prompts on keys, one a line
 * @property {(session: Session, file: SavedFile) => void} [keep] remembers the saved file of a run
 * @property {((session: Session, seconds: number) => string|null)|null} fork forks the shot
 * @property {(pixels: number) => void} [makeRoom] makes the player higher
 * @property {((session: Session, afresh: boolean) => string|null)|null} restart runs the workflow again,
 *   with a new seed if `afresh`
 */
export {};
