/** A watcher of an upload, as a browser would be: it reads the event stream. */
import type { Test } from 'tap'
import { eventually } from './raw-client.ts'
import { ADMIN } from './start-app.ts'

export interface SeenEvent { event: string, data: Record<string, unknown> }

export interface Watch {
  events: SeenEvent[]
  /** @throws where the event does not come */
  until(event: string): Promise<void>
}

/** Ends with the test. */
export function watchUpload(t: Test, url: string, uploadId: string): Watch {
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const events: SeenEvent[] = []
  read(`${url}/uploads/${uploadId}/events`, stop.signal, events).catch(() => {})
  return {
    events,
    until: event => eventually(() => {
      if (!events.some(each => each.event === event)) throw new Error(`no ${event} in ${JSON.stringify(events)}`)
    }, 10_000)
  }
}

async function read(url: string, signal: AbortSignal, events: SeenEvent[]): Promise<void> {
  const response = await fetch(url, { headers: ADMIN, signal })
  let text = ''
  for await (const chunk of response.body!) {
    text += Buffer.from(chunk as Uint8Array).toString()
    const blocks = text.split('\n\n')
    text = blocks.pop()!
    for (const block of blocks) {
      const event = /^event: (.*)$/m.exec(block)?.[1]
      if (event !== undefined) events.push({ event, data: JSON.parse(/^data: (.*)$/m.exec(block)![1]!) as Record<string, unknown> })
    }
  }
}
