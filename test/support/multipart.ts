/** Multipart bodies as a client on a bare socket writes them. */
export const BOUNDARY = 'a-boundary'

export type FormPart = [name: string, value: string] | { name: string, filename?: string, type?: string, bytes: Uint8Array | string }

/** One part without what ends it. */
export function partHead(part: { name: string, filename?: string, type?: string }): string {
  const filename = part.filename === undefined ? '' : `; filename="${part.filename}"`
  return `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${part.name}"${filename}\r\n${part.type === undefined ? '' : `Content-Type: ${part.type}\r\n`}\r\n`
}

/** `end` is what comes behind the last part. */
export function form(parts: readonly FormPart[], end = `--${BOUNDARY}--\r\n`): Buffer {
  const pieces = parts.flatMap(part => (Array.isArray(part)
    ? [partHead({ name: part[0] }), part[1], '\r\n']
    : [partHead(part), part.bytes, '\r\n']))
  return Buffer.concat([...pieces, end].map(piece => Buffer.from(piece as string)))
}

export function file(bytes: Uint8Array | string, name = 'input', filename = 'photo.png', type = 'image/png'): FormPart {
  return { name, filename, type, bytes }
}

/** The head of a request with such a body; without a length it is chunked. */
export function formHead(path: string, length?: number, headers: Record<string, string> = {}): string {
  const all = {
    host: '127.0.0.1', 'content-type': `multipart/form-data; boundary=${BOUNDARY}`,
    ...(length === undefined ? { 'transfer-encoding': 'chunked' } : { 'content-length': String(length) }), ...headers
  }
  return `POST ${path} HTTP/1.1\r\n${Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
}
