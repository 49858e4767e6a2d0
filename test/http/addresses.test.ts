import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { startEdge } from '../support/start-edge.ts'

async function routes(app: FastifyInstance): Promise<void> {
  app.get('/ip', async request => ({ ip: request.ip }))
}

async function addressSeen(url: string, forwarded?: string): Promise<string> {
  const response = await fetch(`${url}/ip`, forwarded === undefined ? {} : { headers: { 'x-forwarded-for': forwarded } })
  return (await response.json() as { ip: string }).ip
}

t.test('without TRUST_PROXY nobody is believed', async t => {
  for (const env of [{}, { TRUST_PROXY: '0' }] as Record<string, string>[]) {
    const { url } = await startEdge(t, { env, routes: [routes] })
    t.equal(await addressSeen(url, '203.0.113.7'), '127.0.0.1')
  }
})

t.test('a hop count believes as many proxies and no more', async t => {
  const one = await startEdge(t, { env: { TRUST_PROXY: '1' }, routes: [routes] })
  t.equal(await addressSeen(one.url), '127.0.0.1')
  t.equal(await addressSeen(one.url, '203.0.113.7'), '203.0.113.7')
  t.equal(await addressSeen(one.url, '198.51.100.1, 203.0.113.7'), '203.0.113.7', 'what the client itself sent does not count')
  const two = await startEdge(t, { env: { TRUST_PROXY: '2' }, routes: [routes] })
  t.equal(await addressSeen(two.url, '192.0.2.9, 198.51.100.1, 203.0.113.7'), '198.51.100.1')
})

t.test('a list believes the proxies it names', async t => {
  const listed = await startEdge(t, { env: { TRUST_PROXY: '127.0.0.0/8,10.0.0.0/8' }, routes: [routes] })
  t.equal(await addressSeen(listed.url, '192.0.2.9, 198.51.100.1, 10.1.2.3'), '198.51.100.1')
  const others = await startEdge(t, { env: { TRUST_PROXY: '10.0.0.0/8' }, routes: [routes] })
  t.equal(await addressSeen(others.url, '198.51.100.1'), '127.0.0.1', 'a peer that is not listed')
})
