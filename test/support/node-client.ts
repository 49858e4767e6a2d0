/** A client of a GPU node, as another machine's would be. */
import { createHash } from 'node:crypto'
import type { FormPart } from './multipart.ts'
import { BOUNDARY, form } from './multipart.ts'

export type Line = Record<string, unknown> & { status: string }

export interface NodeAnswer { status: number, lines: Line[], error: { code?: string, message?: string, details?: unknown } | undefined, headers: Headers }

export const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

export function formBody(parts: readonly FormPart[], headers: Record<string, string> = {}): RequestInit {
  return { method: 'POST', body: new Uint8Array(form(parts)), headers: { 'content-type': `multipart/form-data; boundary=${BOUNDARY}`, ...headers } }
}

export function jsonBody(value: unknown, headers: Record<string, string> = {}): RequestInit {
  return { method: 'POST', body: JSON.stringify(value), headers: { 'content-type': 'application/json', ...headers } }
}

/** Reads the whole answer. */
export async function askNode(url: string, path: string, init: RequestInit): Promise<NodeAnswer> {
  const response = await fetch(`${url}${path}`, { redirect: 'manual', ...init })
  const text = await response.text()
  const isLines = response.headers.get('content-type')?.startsWith('application/x-ndjson') === true
  return {
    status: response.status, headers: response.headers,
    lines: isLines ? text.trimEnd().split('\n').map(each => JSON.parse(each) as Line) : [],
    error: isLines || text === '' ? undefined : (JSON.parse(text) as { error?: NodeAnswer['error'] }).error
  }
}

/** The first line of an answer, and the way to hang up. */
export async function beginOnNode(url: string, path: string, init: RequestInit): Promise<{ first: Line, hangUp(): void, rest(): Promise<Line[]> }> {
  const stop = new AbortController()
  const response = await fetch(`${url}${path}`, { ...init, signal: stop.signal })
  if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`)
  const reader = response.body!.getReader()
  let text = ''
  while (!text.includes('\n')) text += Buffer.from((await reader.read()).value ?? []).toString()
  return {
    first: JSON.parse(text.slice(0, text.indexOf('\n'))) as Line,
    hangUp: () => stop.abort(),
    async rest() {
      for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) text += Buffer.from(value ?? []).toString()
      return text.trimEnd().split('\n').slice(1).map(each => JSON.parse(each) as Line)
    }
  }
}
