/** docker/nginx.conf, as it stands but for addresses, in front of two nodes over the same stores. */
import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { balancerSite, findNginx, provideNginx, startNginx } from '../../scripts/servers/nginx.ts'
import { isRequired } from '../support/minio.ts'
import { eventually } from '../support/raw-client.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

const TOKEN = 'a-token-of-the-administrator'
const headers = { authorization: `Bearer ${TOKEN}` }
/** More than the 1 MiB that nginx takes, and the 16 KiB that it holds, where nothing is said. */
const SIZE_BYTES = 3 * 1024 * 1024

interface Balanced { url: string, nodes: StartedApp[] }

async function balanced(t: Test): Promise<Balanced | undefined> {
  const program = isRequired('nginx') ? await provideNginx(line => console.error(line)) : await findNginx()
  if (program === undefined) {
    void t.test('what needs an nginx', { skip: 'there is no nginx: `node scripts/servers/nginx.ts` gets one' }, () => {})
    return undefined
  }
  const folder = await mkdtemp(join(tmpdir(), 'penstock-balanced-'))
  const nodes = [await startApp(t, { DATA_DIR: folder, ADMIN_TOKEN: TOKEN, TRUST_PROXY: '1' }), await startApp(t, { DATA_DIR: folder, ADMIN_TOKEN: TOKEN, TRUST_PROXY: '1' })]
  const nginx = await startNginx({ program, site: await balancerSite(nodes.map(({ url }) => new URL(url).host)) })
  t.teardown(async () => {
    await nginx.stop()
    await rm(folder, { recursive: true, force: true })
  })
  return { url: nginx.url, nodes }
}

t.test('a body reaches a node while it arrives, and its events reach a listener while they happen', async t => {
  const site = await balanced(t)
  if (site === undefined) return
  const { url, nodes } = site
  const bytes = randomBytes(SIZE_BYTES)
  const uploadId = randomUUID()
  const sending = request(`${url}/upload-proxy?filename=a.bin&size=${SIZE_BYTES}&uploadId=${uploadId}`, { method: 'POST', headers: { ...headers, 'content-length': SIZE_BYTES } })
  const answered = new Promise<number>((resolve, reject) => sending.once('response', response => resolve(response.resume().statusCode!)).once('error', reject))
  sending.write(bytes.subarray(0, 1000))
  await eventually(() => assert.ok(nodes.some(node => node.logged('ingest.upload.put_start').length === 1)), 30_000)
  const events = (await fetch(`${url}/uploads/${uploadId}/events`, { headers })).body!.pipeThrough(new TextDecoderStream()).getReader()
  let heard = ''
  while (!heard.includes('upload_started')) heard += (await events.read()).value ?? ''
  t.notMatch(heard, 'upload_staged')
  sending.end(bytes.subarray(1000))
  t.equal(await answered, 200)
  for (let piece = await events.read(); !piece.done; piece = await events.read()) heard += piece.value
  t.match(heard, /event: upload_\w+\n[^]*event: upload_\w+\n/, 'the stream ends with the upload')
})

t.test('nobody becomes the administrator by a header from outside, and metrics stay inside', async t => {
  const site = await balanced(t)
  if (site === undefined) return
  const { url, nodes } = site
  t.equal((await fetch(`${url}/upload-proxy?filename=a&size=1`, { method: 'POST', headers: { 'x-alga-admin': 'true' }, body: 'x' })).status, 403)
  t.equal((await fetch(`${nodes[0]!.url}/upload-proxy?filename=a&size=1`, { method: 'POST', headers: { 'x-alga-admin': 'true' }, body: 'x' })).status, 200, 'which a node by itself takes here')
  t.equal((await fetch(`${url}/metrics`)).status, 404)
})

t.test('a node that is gone is passed over', async t => {
  const site = await balanced(t)
  if (site === undefined) return
  const { url, nodes } = site
  await nodes[0]!.app.stop()
  for (let at = 0; at < 6; at += 1) {
    t.equal((await fetch(`${url}/files`, { headers })).status, 200)
    t.equal((await fetch(`${url}/upload-proxy?filename=a.bin&size=3`, { method: 'POST', headers, body: 'abc' })).status, 200, 'also for a body of which nothing was sent')
  }
})
