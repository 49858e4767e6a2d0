/** Files of a service, brought and read as a client does. */
import { BOUNDARY, form, type FormPart } from './multipart.ts'
import type { Answer, StartedApp } from './start-app.ts'

export type Headers = Record<string, string>

/** Sends a body to POST /files/upload. */
export async function sendForm({ url }: Pick<StartedApp, 'url'>, parts: readonly FormPart[] | Uint8Array, headers: Headers = {}): Promise<Answer> {
  return await ask({ url }, 'POST', '/files/upload', parts instanceof Uint8Array ? parts : form(parts), { 'content-type': `multipart/form-data; boundary=${BOUNDARY}`, ...headers })
}

/** The id of a new file. */
export async function share(app: Pick<StartedApp, 'url'>, bytes: Uint8Array | string, headers: Headers, { filename = 'notes.txt', type = 'text/plain', access }: { filename?: string, type?: string, access?: string } = {}): Promise<string> {
  const fields: FormPart[] = access === undefined ? [] : [['access', access]]
  const { status, body } = await sendForm(app, [...fields, { name: 'file', filename, type, bytes }], headers)
  if (status !== 201) throw new Error(`${status}: ${JSON.stringify(body)}`)
  return (body as { file_id: string }).file_id
}

/** A request whose answer is JSON, or nothing. */
export async function ask({ url }: Pick<StartedApp, 'url'>, method: string, path: string, body?: unknown, headers: Headers = {}): Promise<Answer> {
  const raw = body === undefined || body instanceof Uint8Array
  const answer = await fetch(url + path, {
    method, redirect: 'manual', headers: { ...!raw && { 'content-type': 'application/json' }, ...headers },
    ...body !== undefined && { body: (raw ? body : JSON.stringify(body)) as NonNullable<RequestInit['body']> }
  })
  const text = await answer.text()
  return { status: answer.status, headers: answer.headers, body: text === '' ? undefined : JSON.parse(text) as unknown }
}

/** A GET whose answer are bytes. */
export async function read({ url }: Pick<StartedApp, 'url'>, path: string, headers: Headers = {}, method = 'GET'): Promise<{ status: number, headers: Headers, text: string }> {
  const answer = await fetch(url + path, { method, headers, redirect: 'manual' })
  return { status: answer.status, headers: Object.fromEntries(answer.headers), text: await answer.text() }
}
