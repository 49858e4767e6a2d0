/** Callers of a service that has credentials: minted with its administrator's token, as a real administrator would. */
import type { Answer, StartedApp } from './start-app.ts'

export const PEOPLE_ENV = { ADMIN_TOKEN: 'a-token-of-the-administrator', GUEST_TOKEN_SECRET: 'a-secret-of-the-guests-of-32-bytes' }

export const administrator = { authorization: `Bearer ${PEOPLE_ENV.ADMIN_TOKEN}` }

export type Headers = Record<string, string>

async function mint(app: StartedApp, body: Record<string, unknown>): Promise<string> {
  const answer: Answer = await app.post('/admin/tokens', body, administrator)
  if (answer.status !== 201) throw new Error(JSON.stringify(answer.body))
  return (answer.body as { token: string }).token
}

/** @param app started with PEOPLE_ENV */
export async function user(app: StartedApp, subject: string, account: string | null = 'acme'): Promise<Headers> {
  return { authorization: `Bearer ${await mint(app, { kind: 'api', account, subject })}` }
}

/** One without a user id. */
export async function service(app: StartedApp, account = 'acme'): Promise<Headers> {
  return { authorization: `Bearer ${await mint(app, { kind: 'api', account })}` }
}

export async function guest(app: StartedApp, subject: string, account = 'acme'): Promise<Headers> {
  return { 'x-guest-authorization': `Bearer ${await mint(app, { kind: 'guest', account, subject })}` }
}

export async function publicForm(app: StartedApp, account = 'acme'): Promise<Headers> {
  return { 'x-public-authorization': `Token ${await mint(app, { kind: 'public', account })}` }
}
