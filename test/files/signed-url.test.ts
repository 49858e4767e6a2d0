import t from 'tap'
import { signedPath, verifySigned } from '../../src/files/signed-url.ts'

const secret = 'a secret of some length'
const id = '6f1c2a5e-0f0b-4e36-9f0c-2f6f3a1d7b11'
const queryOf = (path: string) => Object.fromEntries(new URL(path, 'http://x').searchParams)

t.test('an address holds until its second', async t => {
  const query = queryOf(signedPath({ id, expires: 1000, inline: false }, secret))
  verifySigned(id, query, secret, 999_999)
  for (const now of [1_000_000, 1_000_001]) t.throws(() => verifySigned(id, query, secret, now), { code: 'TOKEN_EXPIRED' })
  t.throws(() => verifySigned(id, query, 'another secret', 1_000_000), { code: 'UNAUTHORIZED' }, 'of what was not signed here nothing is said')
})

t.test('changed by one bit it is none', async t => {
  const query = queryOf(signedPath({ id, expires: 1000, inline: true }, secret))
  verifySigned(id, query, secret, 0)
  const bytes = Buffer.from(query.signature!, 'base64url')
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = Buffer.from(bytes)
    changed[bit >> 3]! ^= 1 << (bit & 7)
    t.throws(() => verifySigned(id, { ...query, signature: changed.toString('base64url') }, secret, 0), { code: 'UNAUTHORIZED' })
  }
  // the last character of base64url has bits that stand for nothing
  const last = query.signature!.at(-1)!
  const twin = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'].find(each => each !== last && Buffer.from(query.signature!.slice(0, -1) + each, 'base64url').equals(bytes))
  t.ok(twin)
  for (const change of [
    { signature: query.signature!.slice(0, -1) + twin }, { signature: `${query.signature}=` }, { signature: '' }, { signature: undefined }, { signature: 'x'.repeat(100_000) },
    { expires: '1001' }, { expires: '01000' }, { expires: '1e3' }, { expires: '1000.0' }, { expires: ' 1000' }, { expires: undefined }, { expires: '-1' }, { inline: undefined }, { inline: '0' }
  ]) t.throws(() => verifySigned(id, { ...query, ...change }, secret, 0), { code: 'UNAUTHORIZED' }, JSON.stringify(change).slice(0, 60))
  t.throws(() => verifySigned(id.replace('6f1c', '6f1d'), query, secret, 0), { code: 'UNAUTHORIZED' })
})
