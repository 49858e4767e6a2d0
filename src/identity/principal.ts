/** Who is calling. Every route decides on this and on rows, never on a header. */
export type PrincipalKind = 'admin' | 'client' | 'user' | 'guest' | 'public' | 'node' | 'developer'

export interface Principal {
  readonly kind: PrincipalKind
  /** User id; null for callers that are no user. */
  readonly subject: string | null
  /** What its files and jobs are shared within. */
  readonly account: string | null
  readonly clientId: string | null
  readonly scopes: readonly string[]
}

/** What it is called in logs. */
export function actorOf(principal: Principal): string {
  return [principal.kind, principal.account, principal.clientId, principal.subject].filter(Boolean).join(':')
}
