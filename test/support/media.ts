/** A media library, used as a client does. */
import { createHash } from 'node:crypto'
import { ask, type Headers } from './shared-files.ts'
import type { Answer, StartedApp } from './start-app.ts'

export interface Begun { uploadURL: string, objectPath: string, expiresAt: string, requiredHeaders: Headers, maxBytes: number }

export const PNG = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==', 'base64')

export const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

export async function begin(app: Pick<StartedApp, 'url'>, headers: Headers, wish: { filename?: string, contentType?: string, size?: number } = {}): Promise<Begun> {
  const { status, body } = await ask(app, 'POST', '/media/upload/init', { filename: 'cat.png', contentType: 'image/png', ...wish }, headers)
  if (status !== 201) throw new Error(`${status}: ${JSON.stringify(body)}`)
  return body as Begun
}

/** Sends bytes as init said. Of an address without a host it is the service's. */
export async function put(app: Pick<StartedApp, 'url'>, { uploadURL, requiredHeaders }: Pick<Begun, 'uploadURL' | 'requiredHeaders'>, bytes: Uint8Array, headers: Headers = {}): Promise<Answer> {
  const answer = await fetch(new URL(uploadURL, app.url), { method: 'PUT', headers: { ...requiredHeaders, ...headers }, body: bytes as NonNullable<RequestInit['body']> })
  const text = await answer.text()
  return { status: answer.status, headers: answer.headers, body: text.startsWith('{') ? JSON.parse(text) as unknown : text }
}

export async function complete(app: Pick<StartedApp, 'url'>, headers: Headers, objectPath: string, more: object = {}): Promise<Answer> {
  return await ask(app, 'POST', '/media/upload/complete', { objectPath, ...more }, headers)
}

/** From nothing to a path in the library. */
export async function keep(app: Pick<StartedApp, 'url'>, headers: Headers, bytes: Uint8Array = PNG, wish: { filename?: string, contentType?: string } = {}): Promise<string> {
  const begun = await begin(app, headers, wish)
  const sent = await put(app, begun, bytes)
  const { status, body } = await complete(app, headers, begun.objectPath)
  if (sent.status !== 200 || status !== 200) throw new Error(`${sent.status} ${status}: ${JSON.stringify(body)}`)
  return (body as { path: string }).path
}

export async function listed(app: Pick<StartedApp, 'url'>, headers: Headers, query = ''): Promise<{ items: { path: string, url: string, size: number, contentType: string, lastModified: string }[], next_cursor: string | null }> {
  return (await ask(app, 'GET', `/media${query}`, undefined, headers)).body as Awaited<ReturnType<typeof listed>>
}
