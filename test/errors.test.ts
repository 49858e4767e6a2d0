import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { catalogue, isPenstockError, PenstockError, slugsOf, type ErrorName, type ErrorRow } from '../src/errors.ts'
import { errorsOf } from '../src/http/error-docs.ts'
import { limited } from '../src/http/rate-limits.ts'
import { uploadErrors } from '../src/http/routes/ingest-errors.ts'

const rows = Object.entries<ErrorRow>(catalogue)

/** The table as it has to stand in the README; printed where it does not, to be pasted. */
function expectedTable(): string {
  const head = ['| name | HTTP | flat code | nested code | meaning |', '|---|---|---|---|---|']
  const lines = rows.map(([name, { status, flatStatus, flat, nested, message }]) => {
    const http = flatStatus === undefined ? `${status}` : `${status} (flat: ${flatStatus})`
    return `| \`${name}\` | ${http} | \`${flat ?? name}\` | \`${nested}\` | ${message} |`
  })
  return [...head, ...lines].join('\n')
}

function tableOfReadme(name: string): string {
  const readme = readFileSync(join(import.meta.dirname, '..', 'README.md'), 'utf8')
  return new RegExp(`<!-- ${name}:start -->\\n([^]*?)\\n?<!-- ${name}:end -->`).exec(readme)?.[1]?.trim() ?? ''
}

/** Slugs of every error of /upload-proxy; errors with the same ones share a line. */
function expectedSlugs(): string {
  const names: ErrorName[] = [...errorsOf({ schema: { security: [{}] }, config: { ...limited('ingest', ''), errors: uploadErrors } }), 'METHOD_NOT_ALLOWED']
  const bySlugs = Map.groupBy(names, name => slugsOf(name).map(slug => `\`${slug}\``).join(', '))
  const lines = [...bySlugs].map(([slugs, sharing]) => `| ${sharing.map(name => `\`${name}\``).join(', ')} | ${slugs} |`)
  return ['| name | `x-upload-proxy-why` |', '|---|---|', ...lines].join('\n')
}

function linesByName(table: string): Map<string, string> {
  return new Map(table.split('\n').slice(2).map(line => [/^\| `([A-Z0-9_]+)`/.exec(line)?.[1] ?? line, line]))
}

t.test('the table of the README and the catalogue say the same, both ways', async t => {
  const [found, expected] = [tableOfReadme('errors'), expectedTable()]
  if (found !== expected) t.comment(`put this between the markers:\n${expected}`)
  const [inReadme, inCatalogue] = [linesByName(found), linesByName(expected)]
  for (const [name, line] of inCatalogue) t.equal(inReadme.get(name), line, `${name} is in the README`)
  for (const name of inReadme.keys()) t.ok(inCatalogue.has(name), `${name} is in the catalogue`)
  t.equal(found, expected, 'in the same order')
})

t.test('the README lists the slugs of /upload-proxy, as the code has them', async t => {
  t.equal(tableOfReadme('slugs'), expectedSlugs())
  for (const slug of (Object.keys(catalogue) as ErrorName[]).flatMap(slugsOf)) t.match(slug, /^[a-z0-9]+(_[a-z0-9]+)*$/)
})

t.test('codes are spelt as their dialect spells them', async t => {
  for (const [name, { status, flatStatus = status, flat = name, nested, message }] of rows) {
    t.match(flat, /^[A-Z0-9]+(_[A-Z0-9]+)*$/, name)
    t.match(nested, /^[a-z0-9]+(_[a-z0-9]+)*$/, name)
    t.ok(status >= 400 && status <= 599 && flatStatus >= 400 && flatStatus <= 599, name)
    t.equal(flatStatus >= 500, status >= 500, `${name}: a fault in one dialect is a fault in the other`)
    t.ok(message.length > 0 && !/[A-Z]|\.$/.test(message[0]! + message.at(-1)!), `${name}: a text that can stand in a sentence`)
  }
})

t.test('a flat code that is not the name of its row belongs to another row', async t => {
  for (const [name, { flat }] of rows) if (flat !== undefined) t.ok(flat in catalogue, name)
})

t.test('an error knows its row', async t => {
  const cause = new Error('why')
  const error = new PenstockError('HASH_MISMATCH', { message: 'mine', details: { a: 1 }, why: 'size_required', cause })
  t.match(error, { code: 'HASH_MISMATCH', statusCode: 400, message: 'mine', details: { a: 1 }, why: 'size_required' })
  t.equal(error.cause, cause)
  t.equal(new PenstockError('NOT_FOUND').message, catalogue.NOT_FOUND.message)
  t.ok(isPenstockError(error) && isPenstockError(error, 'HASH_MISMATCH'))
  t.notOk(isPenstockError(error, 'NOT_FOUND'))
  t.notOk(isPenstockError(new Error('x')))
})
