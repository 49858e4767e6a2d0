import t from 'tap'
import { mintGuestToken, guestVerifier } from '../../src/identity/guest-tokens.ts'
import type { Principal } from '../../src/identity/principal.ts'
import { remembered } from '../../src/identity/verified-tokens.ts'

const alice: Principal = { kind: 'user', subject: 'alice', account: null, clientId: null, scopes: [] }

function counted(expiresAt: () => number, ...bounds: [number?, number?]) {
  const asked: string[] = []
  const verify = remembered(async token => {
    asked.push(token)
    if (token.startsWith('bad')) throw new Error('bad')
    return { principal: alice, expiresAt: expiresAt() }
  }, ...bounds)
  return { asked, verify }
}

t.test('a good token is checked once', async t => {
  const { asked, verify } = counted(() => Date.now() + 60_000)
  for (let round = 0; round < 3; round++) t.equal(await verify('a'), alice)
  t.same(asked, ['a'])
  t.equal(await verify('b'), alice)
  t.same(asked, ['a', 'b'])
})

t.test('a bad token is checked each time', async t => {
  const { asked, verify } = counted(() => Date.now() + 60_000)
  for (let round = 0; round < 3; round++) await t.rejects(verify('bad'))
  t.equal(asked.length, 3)
})

t.test('what is known dies with its token, and after a while in any case', async t => {
  const over = counted(() => Date.now())
  await over.verify('a')
  await over.verify('a')
  t.equal(over.asked.length, 2, 'a token that is over')
  const old = counted(() => Date.now() + 60_000, 10, 0)
  await old.verify('a')
  await old.verify('a')
  t.equal(old.asked.length, 2, 'an entry that is old')
})

t.test('no more than so many are known, the latest', async t => {
  const { asked, verify } = counted(() => Date.now() + 60_000, 3)
  for (const token of ['a', 'b', 'c', 'd', 'b', 'c', 'd']) await verify(token)
  t.same(asked, ['a', 'b', 'c', 'd'])
  await verify('a')
  t.same(asked, ['a', 'b', 'c', 'd', 'a'])
})

t.test('bad tokens do not push out good ones', async t => {
  const { asked, verify } = counted(() => Date.now() + 60_000, 2)
  await verify('a')
  for (let index = 0; index < 10; index++) await t.rejects(verify(`bad-${index}`))
  await verify('a')
  t.equal(asked.filter(token => token === 'a').length, 1)
})

t.test('a guest whom we let in ourselves is let in', async t => {
  const secret = 'a-secret-of-guests-of-32-characters'
  const { token, expiresAt } = await mintGuestToken(secret, { id: 'id', account: 'acme', subject: 'guest', expiresInSeconds: 60 })
  t.ok(Math.abs(expiresAt - Date.now() - 60_000) < 5_000)
  t.same(await guestVerifier(secret, 60)(token), { kind: 'guest', subject: 'guest', account: 'acme', clientId: null, scopes: [] })
  const { token: over } = await mintGuestToken(secret, { id: 'id', account: 'acme', subject: 'guest', expiresInSeconds: -61 })
  await t.rejects(guestVerifier(secret, 60)(over), { code: 'TOKEN_EXPIRED' })
})
