/**
 * Clients of jobs that are used to a service which dies: where a connection breaks they look for its new address and go on.
 * What they were told is kept, because that is what must be true afterwards.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import sharp from 'sharp'

export const ADMIN: Record<string, string> = { 'x-alga-admin': 'true' }
const TENSOR_ELEMENTS = 64
const IMAGE_SIDE_MIN = 64
const IMAGE_SIDE_MAX = 640
const POLL_INTERVAL_MS = 40
const RECONNECT_MS = 50
const TERMINAL = new Set(['completed', 'failed', 'cancelled'])
const TERMINAL_EVENTS = new Set(['generation_complete', 'generation_failed', 'generation_cancelled'])

/** `deleting`: asked for, and not answered: either is right. */
export type Told = 'kept' | 'deleting' | 'deleted'

export interface JobWorld {
  /** of the caller; default: the administrator of a laptop */
  readonly headers?: Record<string, string>
  /** A proxy stands before several nodes: it answers for those that are gone (502, 503, 504), and may ask a second one the same. */
  readonly proxied?: boolean
  /** of a service with the role of an API; waits until there is one */
  url(): Promise<string>
  /** clients end at their next step */
  readonly stopping: AbortSignal
  /** jobs that were answered, and what became of them as far as a client knows */
  readonly told: Map<string, Told>
  /** listeners, which go on until their job has ended */
  readonly followers: Promise<string[]>[]
  readonly counts: { acknowledged: number, cutOff: number, cancels: number, retries: number }
}

class NodeGone extends Error {}

const headersOf = (world: Pick<JobWorld, 'headers'>): Record<string, string> => world.headers ?? ADMIN

const isGone = (world: Pick<JobWorld, 'proxied'>, status: number): boolean => world.proxied === true && [502, 503, 504].includes(status)

interface Answer { status: number, body: Record<string, unknown> }

async function call(world: JobWorld, method: string, path: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(`${await world.url()}${path}`, { method, ...init, headers: { ...headersOf(world), ...init.headers } })
  const text = await response.text()
  if (isGone(world, response.status)) throw new NodeGone(`${method} ${path} was answered with ${response.status}`)
  return { status: response.status, body: text === '' ? {} : JSON.parse(text) as Record<string, unknown> }
}

function insist({ status, body }: Answer, ...allowed: number[]): void {
  if (!allowed.includes(status)) throw new Error(`answered ${status} ${JSON.stringify(body)}`)
}

/** Two things can be asked again and answered from memory: sometimes the tensor is one that was asked before. */
function tensorJob(): RequestInit {
  const data = randomInt(4) === 0 ? Array.from({ length: TENSOR_ELEMENTS }, (_, at) => at % 3) : [...randomBytes(TENSOR_ELEMENTS)]
  return {
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'identity', input: { tensors: [{ name: 'x', datatype: 'FP32', shape: [TENSOR_ELEMENTS], data }] } })
  }
}

async function imageJob(): Promise<RequestInit> {
  const [width, height] = [randomInt(IMAGE_SIDE_MIN, IMAGE_SIDE_MAX), randomInt(IMAGE_SIDE_MIN, IMAGE_SIDE_MAX)]
  const image = await sharp(randomBytes(width * height * 3), { raw: { width, height, channels: 3 } }).png().toBuffer()
  const form = new FormData()
  form.set('model', randomInt(2) === 0 ? 'upscale-2x' : 'edges')
  form.set('input', new Blob([new Uint8Array(image)], { type: 'image/png' }), 'noise.png')
  return { body: form }
}

/** A connection that breaks when the service dies; anything else was wrong before. */
function isConnectionFailure(error: unknown): boolean {
  return error instanceof NodeGone || error instanceof TypeError || (error as { cause?: unknown }).cause !== undefined
}

/** Makes jobs until the world stops, one at a time. @throws where an answer was wrong */
export async function client(world: JobWorld): Promise<void> {
  while (!world.stopping.aborted) {
    try {
      await oneJob(world)
    } catch (error) {
      if (!isConnectionFailure(error)) throw error
      if (!world.stopping.aborted) world.counts.cutOff += 1
      await delay(RECONNECT_MS)
    }
  }
}

async function oneJob(world: JobWorld): Promise<void> {
  const answer = await call(world, 'POST', '/api/v1/jobs', randomInt(3) === 0 ? await imageJob() : tensorJob())
  insist(answer, 202)
  const id = String(answer.body.job_id)
  world.told.set(id, 'kept')
  world.counts.acknowledged += 1
  switch (randomInt(10)) {
    case 0: return await cancel(world, id)
    case 1: return await remove(world, id)
    case 2: case 3: case 4: world.followers.push(follow(world, id))
  }
  await finished(world, id)
}

async function cancel(world: JobWorld, id: string): Promise<void> {
  await delay(randomInt(150))
  insist(await call(world, 'POST', `/api/v1/jobs/${id}/cancel`), 200)
  world.counts.cancels += 1
  await finished(world, id)
  if (randomInt(2) === 0 || world.stopping.aborted) return
  const retried = await call(world, 'POST', `/api/v1/jobs/${id}/retry`)
  insist(retried, 200, 202, 409)
  if (retried.status !== 409) world.counts.retries += 1
}

async function remove(world: JobWorld, id: string): Promise<void> {
  await delay(randomInt(150))
  world.told.set(id, 'deleting')
  insist(await call(world, 'DELETE', `/api/v1/jobs/${id}`), 204, ...(world.proxied === true ? [404] : []))
  world.told.set(id, 'deleted')
}

async function finished(world: JobWorld, id: string): Promise<void> {
  while (!world.stopping.aborted) {
    const answer = await call(world, 'GET', `/api/v1/jobs/${id}`)
    insist(answer, 200)
    if (TERMINAL.has(String(answer.body.status))) return
    await delay(POLL_INTERVAL_MS)
  }
}

interface Heard { seq: number, event: string }

/** How a client asks for events behind the last that it has, and how it reads them: as lines, or as browsers do. */
interface Dialect { request(after: number): { query: string, headers: Record<string, string> }, separator: string, read(text: string): Heard | undefined }

const lines: Dialect = {
  request: after => ({ query: `?after=${after}`, headers: { accept: 'application/x-ndjson' } }),
  separator: '\n',
  read: text => JSON.parse(text) as Heard
}

const serverSent: Dialect = {
  request: after => ({ query: '', headers: { accept: 'text/event-stream', 'last-event-id': String(after) } }),
  separator: '\n\n',
  read(text) {
    const [, seq] = /^id: (\d+)$/m.exec(text) ?? []
    const [, event] = /^event: (\w+)$/m.exec(text) ?? []
    // a comment keeps the stream alive, and its farewell says when to come again
    return seq === undefined || event === undefined ? undefined : { seq: Number(seq), event }
  }
}

/** Listens to a job from the first event to the last, across every death of the service. Returns what was wrong with what it heard. */
async function follow(world: JobWorld, id: string): Promise<string[]> {
  const heard: Heard[] = []
  const dialect = randomInt(2) === 0 ? lines : serverSent
  for (;;) {
    try {
      const { query, headers } = dialect.request(heard.at(-1)?.seq ?? 0)
      const response = await fetch(`${await world.url()}/api/v1/jobs/${id}/events${query}`, { headers: { ...headersOf(world), ...headers } })
      if (isGone(world, response.status)) throw new NodeGone('answered by the proxy')
      if (response.status !== 200) return [`the events of ${id} were answered with ${response.status} ${await response.text()}`]
      await readEvents(response, dialect, event => heard.push(event))
      if (TERMINAL_EVENTS.has(heard.at(-1)?.event ?? '')) return whatWasWrong(id, heard)
    } catch (error) {
      if (!isConnectionFailure(error)) throw error
    }
    await delay(RECONNECT_MS)
  }
}

async function readEvents(response: Response, { separator, read }: Dialect, onEvent: (event: Heard) => void): Promise<void> {
  let rest = ''
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split(separator)
    rest = parts.pop()!
    for (const part of parts) {
      // blank lines keep an idle stream alive
      const event = part === '' ? undefined : read(part)
      if (event !== undefined) onEvent(event)
    }
  }
}

function whatWasWrong(id: string, heard: readonly Heard[]): string[] {
  const faults: string[] = []
  if (heard[0]?.seq !== 1) faults.push(`the events of ${id} began with ${heard[0]?.seq}`)
  heard.forEach(({ seq }, at) => { if (at > 0 && seq <= heard[at - 1]!.seq) faults.push(`event ${seq} of ${id} came behind ${heard[at - 1]!.seq}`) })
  return faults
}
