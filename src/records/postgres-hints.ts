/**
 * Hints between nodes by LISTEN and NOTIFY, on a connection of its own: a pool would hand the session to somebody else.
 *
 * The connection is opened at the first subscription and again whenever it is lost, with a pause that grows. What was sent
 * meanwhile is lost, so each opening ends with a hint to look at the queue. Channels belong to a database: where several schemas share one, their hints mix,
 * which costs a look and nothing else.
 *
 * A message is `<sender> queued`, `<sender> job <id>` or `<sender> activity <user>`.
 */
import { randomUUID } from 'node:crypto'
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { Client } from 'pg'
import type { ClientConfig } from 'pg'
import { HINTS_CHECK_INTERVAL_MS, HINTS_CLOSE_MS, HINTS_RECONNECT_MAX_MS, HINTS_RECONNECT_MIN_MS } from '../limits.ts'
import type { HintChannel } from './hints.ts'
import type { JobHint } from './jobs-port.ts'

const CHANNEL = 'penstock_jobs'

export function postgresHints(config: ClientConfig): HintChannel {
  const sender = randomUUID()
  const closing = new AbortController()
  let ended: Promise<void> = Promise.resolve()
  return {
    async send(trx, hints) {
      // Postgres keeps one of equal messages of a transaction
      const messages = hints.map(hint => messageOf(sender, hint))
      await sql`select pg_notify(${sql.lit(CHANNEL)}, message) from unnest(${messages}::text[]) as message`.execute(trx)
    },
    listen(receive) {
      ended = keepListening(config, closing.signal, message => {
        const hint = hintOf(sender, message)
        if (hint !== undefined) receive(hint)
      }, () => receive({ kind: 'queued' }))
    },
    async close() {
      closing.abort()
      await ended
    }
  }
}

function messageOf(sender: string, hint: JobHint): string {
  if (hint.kind === 'queued') return `${sender} queued`
  return hint.kind === 'job' ? `${sender} job ${hint.jobId}` : `${sender} activity ${hint.user}`
}

/** Undefined for one's own, and for what is none. */
function hintOf(own: string, message: string): JobHint | undefined {
  const [sender, kind, ...rest] = message.split(' ')
  if (sender === own) return undefined
  if (kind === 'queued') return { kind }
  if (kind === 'activity') return { kind, user: rest.join(' ') }
  return kind === 'job' ? { kind, jobId: rest.join(' ') } : undefined
}

type OnMessage = (message: string) => void

/** Until the signal. Rejects never. */
async function keepListening(config: ClientConfig, signal: AbortSignal, onMessage: OnMessage, onOpen: () => void): Promise<void> {
  for (let pauseMs = HINTS_RECONNECT_MIN_MS; !signal.aborted; pauseMs = Math.min(pauseMs * 2, HINTS_RECONNECT_MAX_MS)) {
    await listenOnce(config, signal, onMessage, () => {
      pauseMs = HINTS_RECONNECT_MIN_MS
      onOpen()
    })
    await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => {})
  }
}

/** Until the connection is lost, or the signal. Rejects never: why it was lost, the next call of the store says too. */
async function listenOnce(config: ClientConfig, signal: AbortSignal, onMessage: OnMessage, onOpen: () => void): Promise<void> {
  const socket = new Socket()
  const client = new Client({ ...config, stream: () => socket })
  const lost = new AbortController()
  const lose = () => lost.abort()
  client.on('error', lose)
  client.on('end', lose)
  client.on('notification', ({ payload }) => onMessage(payload ?? ''))
  // a connection that is being made can only be broken off
  const breakOff = () => { socket.destroy() }
  signal.addEventListener('abort', breakOff)
  try {
    await client.connect()
    signal.removeEventListener('abort', breakOff)
    await client.query(`listen ${CHANNEL}`)
    if (!signal.aborted) onOpen()
    await watch(client, AbortSignal.any([signal, lost.signal]))
  } catch {
    // lost
  } finally {
    signal.removeEventListener('abort', breakOff)
    await end(client)
    socket.destroy()
  }
}

/** A server that goes away without a word is noticed by a question now and then. */
async function watch(client: Client, over: AbortSignal): Promise<void> {
  while (!over.aborted) {
    await sleep(HINTS_CHECK_INTERVAL_MS, undefined, { signal: over, ref: false }).catch(() => {})
    if (!over.aborted) await client.query('select 1')
  }
}

/** A server that does not answer does not say goodbye either. */
async function end(client: Client): Promise<void> {
  const limit = new AbortController()
  await Promise.race([client.end().catch(() => {}), sleep(HINTS_CLOSE_MS, undefined, { signal: limit.signal, ref: false }).catch(() => {})])
  limit.abort()
}
