/**
 * Whom an imported file is for. One holder for all, or a map of prefixes, of which the first that fits decides:
 *
 *   users/{subject}/=acme/{subject}     users/7/a.png belongs to user 7 of account acme
 *   shared/=acme                        to all callers of acme without a user id
 *
 * `{account}` and `{subject}` each stand for one part of a path.
 */
import type { Holder } from '../../src/records/access-port.ts'

/** Of a path; undefined where nothing says whose it is. `rest`: what is left of the path behind the prefix. */
export type HolderOf = (path: string) => { holder: Holder, rest: string } | undefined

interface Rule { pattern: RegExp, account: string, subject: string | undefined }

const PLACES = ['{account}', '{subject}'] as const

/** @throws Error with a text for whoever wrote the map */
export function holderOf(map: readonly string[], fallback: Holder | undefined): HolderOf {
  const rules = map.map(ruleOf)
  return path => {
    for (const { pattern, account, subject } of rules) {
      const match = pattern.exec(path)
      if (match === null) continue
      const holder = { account: fill(account, match.groups), subject: subject === undefined ? null : fill(subject, match.groups) }
      return { holder, rest: path.slice(match[0].length) }
    }
    return fallback && { holder: fallback, rest: path }
  }
}

function ruleOf(text: string): Rule {
  const at = text.lastIndexOf('=')
  const [prefix, target] = [text.slice(0, Math.max(at, 0)), text.slice(at + 1)]
  const slash = target.indexOf('/')
  const [account, subject] = slash === -1 ? [target, undefined] : [target.slice(0, slash), target.slice(slash + 1)]
  if (at === -1 || account === '' || subject === '') throw new Error(`--map takes PREFIX=ACCOUNT or PREFIX=ACCOUNT/SUBJECT, not '${text}'`)
  for (const place of PLACES) {
    if (prefix.split(place).length > 2) throw new Error(`--map names ${place} twice in '${prefix}'`)
    if (target.includes(place) && !prefix.includes(place)) throw new Error(`--map has ${place} in '${target}', and not in '${prefix}'`)
  }
  return { pattern: patternOf(prefix), account, subject }
}

function patternOf(prefix: string): RegExp {
  const source = prefix.split(/(\{account\}|\{subject\})/).map(part => part === '{account}' ? '(?<account>[^/]+)' : part === '{subject}' ? '(?<subject>[^/]+)' : RegExp.escape(part))
  return new RegExp(`^${source.join('')}`, 'u')
}

function fill(text: string, found: Record<string, string> | undefined): string {
  return text.replaceAll(/\{(account|subject)\}/g, (_, name: string) => found?.[name] ?? '')
}
