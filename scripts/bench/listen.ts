/**
 * Listeners: an order with `url` opens `count` event streams on it and is answered when all have heard something; the next is
 * answered when all have ended, with what they heard.
 */
import { Agent, get } from 'node:http'
import { ready } from './processes.ts'

export interface ListenOrder { url?: string, count?: number, headers?: Record<string, string> }
export interface ListenReport {
  /** The numbers that a listener heard, in order and with commas between → how many listeners heard just that. */
  heard: Record<string, number>
  /** How many ended with each event. */
  ended: Record<string, number>
}

interface Listener { begun: Promise<void>, over: Promise<{ numbers: string[], last: string }> }

const agent = new Agent({ maxSockets: Infinity })
let listeners: Listener[] = []

function listen(url: string, headers: Record<string, string>): Listener {
  const begun = Promise.withResolvers<void>()
  const over = Promise.withResolvers<{ numbers: string[], last: string }>()
  const numbers: string[] = []
  let last = ''
  let rest = ''
  const request = get(url, { agent, headers: { ...headers, accept: 'text/event-stream' } }, response => {
    if (response.statusCode !== 200) return void fail(new Error(`a listener was answered ${response.statusCode}`))
    response.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop()!
      for (const line of lines) {
        if (line.startsWith('id:')) numbers.push(line.slice(3).trim())
        if (line.startsWith('event:')) last = line.slice(6).trim()
      }
      if (numbers.length > 0) begun.resolve()
    }).once('end', () => over.resolve({ numbers, last })).once('error', fail)
  }).once('error', fail)
  function fail(error: Error): void {
    request.destroy()
    begun.reject(error)
    over.reject(error)
  }
  return { begun: begun.promise, over: over.promise }
}

function countOf(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1
  return counts
}

async function obey({ url, count = 0, headers = {} }: ListenOrder): Promise<ListenReport | object> {
  if (url !== undefined) {
    listeners = Array.from({ length: count }, () => listen(url, headers))
    for (const { over } of listeners) over.catch(() => {})
    await Promise.all(listeners.map(({ begun }) => begun))
    return {}
  }
  const all = await Promise.all(listeners.map(({ over }) => over))
  return { heard: countOf(all.map(({ numbers }) => numbers.join(','))), ended: countOf(all.map(({ last }) => last)) }
}

process.on('message', (message: ListenOrder) => {
  obey(message).then(report => process.send?.(report), (error: unknown) => {
    console.error(error)
    process.exit(1)
  })
})
ready()
