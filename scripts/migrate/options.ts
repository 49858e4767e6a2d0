/** The command line: what may be said, what it means, and what is wrong with it. */
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util'
import type { FileAccess } from '../../src/records/jobs-port.ts'
import { holderOf, type HolderOf } from './holders.ts'
import { CONCURRENCY_DEFAULT, CONCURRENCY_MAX, URL_BODY_TIMEOUT_SECONDS } from './limits.ts'

export const HELP = `npm run migrate-files -- <command> [options]

Brings files into Penstock, or moves its objects from one store to another. Reads the same configuration as the service
(.env, environment), and works beside it.

Commands
  from-folder <dir>   files of a folder and of those below it; links are passed over
  from-bucket         objects of another S3 bucket; its keys come from SOURCE_S3_ACCESS_KEY_ID and SOURCE_S3_SECRET_ACCESS_KEY
      --bucket NAME       the bucket
      --endpoint URL      its server; AWS without it
      --region NAME       us-east-1 without it
      --prefix TEXT       only keys that begin so
      --virtual-host      the bucket's name in the host, as AWS wants it; in the path without it, as most others do
  from-urls <list>    http and https addresses, one a line; a name for the file may follow behind a tab
      --allow-private     also private, loopback and link-local addresses
      --timeout SECONDS   the longest that one transfer may take; ${URL_BODY_TIMEOUT_SECONDS} without it
  between-stores      every object that a record points at, from one store of Penstock to the other, under the same keys
      --from fs|s3        where they are: fs is DATA_DIR, s3 what the S3_ variables say
      --to fs|s3          where they are to be as well

Whose the imported files are
  --account NAME      account that they belong to
  --subject NAME      user of that account; without it, all its callers that are no user
  --map PREFIX=ACCOUNT[/SUBJECT]
                      what lies below a prefix belongs to these; again for more, the first that fits decides. {account} and
                      {subject} stand for one part of a path: 'users/{subject}/=acme/{subject}'. What fits none belongs to
                      --account, or is passed over
  --access NAME       account (without it), public or restricted

All of them
  --dry-run           says what would be done, and does nothing
  --verify            reads what was stored back and compares its sha256, also of what was there already
  --concurrency N     transfers at once, ${CONCURRENCY_DEFAULT} without it, at most ${CONCURRENCY_MAX}; each takes up to 8 MiB of memory
  --report FILE       what became of each, as JSON
  --help              this text

Imports
  --max-bytes N       the largest file; MAX_FILE_SIZE_BYTES without it
  --keep-folders      names of files keep the folders they were in: a/b.txt becomes a_b.txt
  --label TEXT        what stands for the folder or bucket in the ids of its files: its path, or its endpoint and name, without it

Run it again after whatever ended it: what is done is passed over, nothing is doubled. The first Ctrl-C begins nothing more
and finishes what is under way; the second cuts that off.

Exit codes: 0 all is done, 1 something failed, 2 it could not begin, 130 or 143 it was told to end.`

/** What is wrong with what was asked for. */
export class UsageError extends Error {}

export interface CommonOptions { dryRun: boolean, verify: boolean, concurrency: number, report: string | undefined }

export interface ImportCommand extends CommonOptions {
  holderOf: HolderOf
  access: FileAccess
  /** undefined: as the configuration says */
  maxBytes: number | undefined
  keepFolders: boolean
  label: string | undefined
}

export type StoreName = 'fs' | 's3'

export type Command =
  | { command: 'help' }
  | ImportCommand & { command: 'from-folder', folder: string }
  | ImportCommand & { command: 'from-bucket', bucket: string, endpoint: string | undefined, region: string, prefix: string, forcePathStyle: boolean }
  | ImportCommand & { command: 'from-urls', list: string, allowPrivate: boolean, timeoutMs: number }
  | CommonOptions & { command: 'between-stores', from: StoreName, to: StoreName }

const common = {
  'dry-run': { type: 'boolean', default: false },
  verify: { type: 'boolean', default: false },
  concurrency: { type: 'string', default: String(CONCURRENCY_DEFAULT) },
  report: { type: 'string' },
  help: { type: 'boolean', default: false }
} as const satisfies ParseArgsOptionsConfig

const imports = {
  ...common,
  account: { type: 'string' },
  subject: { type: 'string' },
  map: { type: 'string', multiple: true, default: [] as string[] },
  access: { type: 'string', default: 'account' },
  'max-bytes': { type: 'string' },
  'keep-folders': { type: 'boolean', default: false },
  label: { type: 'string' }
} as const

/** @throws UsageError */
export function readCommand(args: readonly string[]): Command {
  const [command = '', ...rest] = args
  if (rest.includes('--help') || ['help', '--help', '-h', ''].includes(command)) return { command: 'help' }
  try {
    switch (command) {
      case 'from-folder': return fromFolder(rest)
      case 'from-bucket': return fromBucket(rest)
      case 'from-urls': return fromUrls(rest)
      case 'between-stores': return betweenStores(rest)
      default: throw new UsageError(`there is no command ${command}`)
    }
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError((error as Error).message, { cause: error })
  }
}

function fromFolder(args: string[]): Command {
  const { values, positionals } = parseArgs({ args, options: imports, allowPositionals: true })
  return { command: 'from-folder', folder: only(positionals, 'the folder'), ...importOptions(values) }
}

function fromBucket(args: string[]): Command {
  const { values } = parseArgs({ args, options: {
    ...imports, bucket: { type: 'string' }, endpoint: { type: 'string' }, region: { type: 'string', default: 'us-east-1' },
    prefix: { type: 'string', default: '' }, 'virtual-host': { type: 'boolean', default: false }
  } })
  const { bucket, endpoint, region, prefix } = values
  if (bucket === undefined || bucket === '') throw new UsageError('--bucket is missing')
  if (endpoint !== undefined && !/^https?:\/\//.test(endpoint)) throw new UsageError('--endpoint takes an http or https address')
  return { command: 'from-bucket', bucket, endpoint, region, prefix, forcePathStyle: !values['virtual-host'], ...importOptions(values) }
}

function fromUrls(args: string[]): Command {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: {
    ...imports, 'allow-private': { type: 'boolean', default: false }, timeout: { type: 'string', default: String(URL_BODY_TIMEOUT_SECONDS) }
  } })
  return {
    command: 'from-urls', list: only(positionals, 'the list'), allowPrivate: values['allow-private'],
    timeoutMs: wholeNumber('--timeout', values.timeout, 1, 86_400) * 1000, ...importOptions(values)
  }
}

function betweenStores(args: string[]): Command {
  const { values } = parseArgs({ args, options: { ...common, from: { type: 'string' }, to: { type: 'string' } } })
  const [from, to] = [storeName('--from', values.from), storeName('--to', values.to)]
  if (from === to) throw new UsageError('--from and --to name the same store')
  return { command: 'between-stores', from, to, ...commonOptions(values) }
}

function commonOptions(values: { 'dry-run': boolean, verify: boolean, concurrency: string, report?: string | undefined }): CommonOptions {
  return { dryRun: values['dry-run'], verify: values.verify, concurrency: wholeNumber('--concurrency', values.concurrency, 1, CONCURRENCY_MAX), report: values.report }
}

interface ImportValues {
  'dry-run': boolean, verify: boolean, concurrency: string, report?: string | undefined
  account?: string | undefined, subject?: string | undefined, map: string[], access: string, 'max-bytes'?: string | undefined, 'keep-folders': boolean, label?: string | undefined
}

function importOptions(values: ImportValues): ImportCommand {
  const { account, subject, map, access, label } = values
  if (account === '' || subject === '') throw new UsageError('--account and --subject take a name')
  if (account === undefined && subject !== undefined) throw new UsageError('--subject needs --account')
  if (account === undefined && map.length === 0) throw new UsageError('--account or --map is missing: somebody has to own the files')
  const maxBytes = values['max-bytes']
  return {
    ...commonOptions(values), access: accessName(access), label, keepFolders: values['keep-folders'],
    holderOf: holderOf(map, account === undefined ? undefined : { account, subject: subject ?? null }),
    maxBytes: maxBytes === undefined ? undefined : wholeNumber('--max-bytes', maxBytes, 1, Number.MAX_SAFE_INTEGER)
  }
}

function only(positionals: readonly string[], what: string): string {
  const [first, ...more] = positionals
  if (first === undefined) throw new UsageError(`${what} is missing`)
  if (more.length > 0) throw new UsageError(`${what} is one; ${more.map(each => `'${each}'`).join(', ')} is too much`)
  return first
}

function wholeNumber(name: string, text: string, min: number, max: number): number {
  const number = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (!(number >= min && number <= max)) throw new UsageError(`${name} takes a whole number from ${min} to ${max}, not '${text}'`)
  return number
}

function accessName(text: string): FileAccess {
  if (text === 'account' || text === 'public' || text === 'restricted') return text
  throw new UsageError(`--access takes account, public or restricted, not '${text}'`)
}

function storeName(option: string, text: string | undefined): StoreName {
  if (text === 'fs' || text === 's3') return text
  throw new UsageError(`${option} takes fs or s3${text === undefined ? '' : `, not '${text}'`}`)
}
