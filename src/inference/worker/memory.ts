/**
 * Memory that one run after another uses, by name. What is fresh for each tile lies about until it is collected, and
 * collecting it was an eighth of the time of small images. What is larger than `maxBytes` is not kept.
 */
export type Memory = (name: string, bytes: number) => ArrayBuffer

export function keptMemory(maxBytes: number): Memory {
  const kept = new Map<string, ArrayBuffer>()
  return (name, bytes) => {
    const known = kept.get(name)
    if (known !== undefined && known.byteLength >= bytes) return known
    const fresh = new ArrayBuffer(bytes)
    kept.delete(name)
    if (bytes <= maxBytes) kept.set(name, fresh)
    return fresh
  }
}
