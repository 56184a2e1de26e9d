// @ts-check
/** The transfer format of a chunk: "LTF1", u16 width, u16 height, u32 n, n x u32 sizes, n JPEGs (big-endian). */

const MAGIC = 0x4c544631; // "LTF1"
const HEADER_BYTES = 12;

/**
 * @typedef {{width: number, height: number, bytes: number, jpegs: Uint8Array<ArrayBuffer>[]}} PackedChunk
 */

/**
 * Return the pictures of a chunk as views into `buffer`; throws if it is not a complete chunk.
 * @param {ArrayBuffer} buffer
 * @returns {PackedChunk}
 */
export function unpack(buffer) {
  const head = new DataView(buffer);
  if (buffer.byteLength < HEADER_BYTES || head.getUint32(0) !== MAGIC) {
    throw new Error("The server's answer is not a chunk of frames.");
  }
  const count = head.getUint32(8);
  let offset = HEADER_BYTES + 4 * count;
  const jpegs = [];
  for (let index = 0; index < count; index++) {
    const size = head.getUint32(HEADER_BYTES + 4 * index);
    jpegs.push(new Uint8Array(buffer, offset, size));
    offset += size;
  }
  return { width: head.getUint16(4), height: head.getUint16(6), bytes: buffer.byteLength, jpegs };
}
