/**
 * The type that a file is stored and sent with: what its first bytes say, else what the client says. Nothing that a browser
 * would run as a page of ours (HTML, SVG, XML, scripts), and nothing that nobody knows.
 */
import { fileTypeFromBuffer } from 'file-type'

const OCTETS = 'application/octet-stream'

/** Formats that are a container of another name: the bytes say zip, and a docx is one. */
const CONTAINERS = new Map([
  ['application/zip', /^application\/(?:vnd\.openxmlformats-officedocument\.[a-z.]+|vnd\.oasis\.opendocument\.[a-z]+|epub\+zip)$/],
  ['application/x-cfb', /^application\/(?:msword|vnd\.ms-(?:excel|powerpoint))$/],
  ['application/ogg', /^(?:audio|video)\/ogg$/],
  ['video/webm', /^audio\/webm$/],
  ['video/mp4', /^audio\/(?:mp4|x-m4a)$/],
  ['video/3gpp', /^audio\/3gpp$/]
])

const APPLICATIONS = new Set([
  'application/pdf', 'application/json', 'application/rtf', 'application/ogg', 'application/epub+zip', OCTETS,
  'application/zip', 'application/gzip', 'application/x-tar', 'application/x-7z-compressed', 'application/x-bzip2', 'application/x-xz',
  'application/zstd', 'application/vnd.rar', 'application/x-rar-compressed',
  'application/msword', 'application/vnd.ms-excel', 'application/vnd.ms-powerpoint', 'application/x-cfb'
])
const OFFICE = /^application\/vnd\.(?:openxmlformats-officedocument|oasis\.opendocument)\.[a-z.]+$/
const MEDIA = /^(?:image|audio|video)\/[a-z0-9][a-z0-9.+-]{0,99}$/
const TEXTS = new Set(['text/plain', 'text/csv'])
const SCRIPTABLE = /svg|xml|html|javascript|ecmascript/

/** Names that mean another. */
const ALIASES = new Map([
  ['image/jpg', 'image/jpeg'], ['application/x-zip-compressed', 'application/zip'], ['application/x-gzip', 'application/gzip'],
  ['application/x-pdf', 'application/pdf'], ['application/x-zip', 'application/zip']
])

/**
 * @param claimed what the client says, with its parameters
 * @param head the first SNIFF_BYTES, or all there are
 */
export async function contentTypeOf(claimed: string | undefined, head: Uint8Array): Promise<string> {
  const said = bare(claimed)
  const seen = bare((await fileTypeFromBuffer(head))?.mime)
  if (seen === undefined) return allowed(said)
  return said !== undefined && CONTAINERS.get(seen)?.test(said) === true ? allowed(said) : allowed(seen)
}

/** In lower case, without parameters. */
function bare(type: string | undefined): string | undefined {
  const name = type?.split(';', 1)[0]!.trim().toLowerCase()
  return name === undefined ? undefined : ALIASES.get(name) ?? name
}

function allowed(type: string | undefined): string {
  if (type === undefined) return OCTETS
  if (TEXTS.has(type) || APPLICATIONS.has(type)) return type
  return !SCRIPTABLE.test(type.replace('openxmlformats', '')) && (OFFICE.test(type) || MEDIA.test(type)) ? type : OCTETS
}
