/**
 * Where webhooks may go. A caller names an address that this service then connects to, from inside of whatever network it
 * is in; so everything but public unicast is refused, unless WEBHOOK_ALLOW_PRIVATE says otherwise.
 *
 * A literal address is refused when a job is created. A name is looked up at delivery, and what is checked is what is then
 * connected to: the check is part of the connection's own look-up, so that a name cannot answer twice, differently.
 * An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4) is judged by that too.
 */
import { lookup, type LookupAddress } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { WEBHOOK_URL_MAX_CHARACTERS } from '../limits.ts'

/** IANA's special-purpose registries: what is not globally reachable unicast. */
const V4 = [
  '0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24',
  '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4'
]
/** The same within 2000::/3; global unicast is nowhere else. */
const V6 = ['2001::/23', '2001:db8::/32', '3fff::/20']
const blocked = blockList()

function blockList(): BlockList {
  const list = new BlockList()
  for (const [type, ranges] of [['ipv4', V4], ['ipv6', V6]] as const) {
    for (const range of ranges) {
      const [address = '', bits = ''] = range.split('/')
      list.addSubnet(address, Number(bits), type)
    }
  }
  return list
}

/** Not a public unicast address. Also of what is no address at all. */
export function isPrivateAddress(address: string): boolean {
  const plain = address.replace(/%.*$/, '')
  const version = isIP(plain)
  if (version === 0) return true
  if (version === 4) return blocked.check(plain, 'ipv4')
  const embedded = embeddedV4(plain)
  if (embedded !== undefined) return isPrivateAddress(embedded)
  return !isGlobalUnicast(plain) || blocked.check(plain, 'ipv6')
}

/** 2000::/3, all that IANA gives out of (RFC 4291, section 2.4). */
function isGlobalUnicast(address: string): boolean {
  return groupsOf(address)[0]! >> 13 === 1
}

/** ::ffff:a.b.c.d (RFC 4291), 64:ff9b::a.b.c.d (RFC 6052), 2002:ab:cd:: (RFC 3056). */
function embeddedV4(address: string): string | undefined {
  const groups = groupsOf(address)
  const starts = (...head: number[]): boolean => head.every((group, index) => groups[index] === group)
  if (starts(0, 0, 0, 0, 0, 0xffff) || starts(0x64, 0xff9b, 0, 0, 0, 0)) return dotted(groups[6]!, groups[7]!)
  return starts(0x2002) ? dotted(groups[1]!, groups[2]!) : undefined
}

function dotted(high: number, low: number): string {
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.')
}

/** The eight groups, by way of the URL parser, which writes an address with its longest run of zeros left out, and no dots. */
function groupsOf(address: string): number[] {
  const [head = '', tail = ''] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const [before, after] = [numbersOf(head), numbersOf(tail)]
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after]
}

function numbersOf(groups: string): number[] {
  return groups === '' ? [] : groups.split(':').map(group => Number.parseInt(group, 16))
}

/** The literal address in a URL's host, or undefined for a name. */
export function literalAddress({ hostname }: URL): string | undefined {
  const address = hostname.replace(/^\[(.*)\]$/, '$1')
  return isIP(address) === 0 ? undefined : address
}

/** What is wrong with the address of a webhook, as far as it can be said without a look-up. Completes "url …". */
export function webhookUrlFault(text: unknown, { allowPrivate }: { allowPrivate: boolean }): string | undefined {
  if (typeof text !== 'string' || text.length > WEBHOOK_URL_MAX_CHARACTERS || !URL.canParse(text)) return 'must be an http or https address'
  const url = new URL(text)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return 'must be an http or https address'
  if (url.username !== '' || url.password !== '') return 'must not hold a user name or password'
  const address = literalAddress(url)
  if (!allowPrivate && address !== undefined && isPrivateAddress(address)) return 'must not be a private, loopback or link-local address'
  return undefined
}

/** A name, or an address, that webhooks must not reach. */
export class AddressRefused extends Error {
  readonly code = 'WEBHOOK_ADDRESS_REFUSED'
  constructor(host: string) {
    super(`${host} is, or resolves to, a private address`)
    this.name = 'AddressRefused'
  }
}

type Resolve = (hostname: string, options: { all: true }, callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void) => void

/** For a connection: resolves as ever, and gives out public addresses only. @throws AddressRefused, to the callback, where there is none */
export function publicLookup(resolve: Resolve = lookup): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, '')
      const found = addresses.filter(({ address }) => !isPrivateAddress(address))
      const [first] = found
      if (first === undefined) return callback(new AddressRefused(hostname), '')
      if (options.all === true) callback(null, found)
      else callback(null, first.address, first.family)
    })
  }
}
