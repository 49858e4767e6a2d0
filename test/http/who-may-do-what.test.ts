/**
 * The table of the README that says who may do what: it has every route once, and a caller is refused (401, 403) by a route
 * exactly where the table has a dash. What is asked for is not there, and bodies are empty: guards come before that.
 * Whose things a caller may reach is for the authorization matrix.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { randomUUID } from 'node:crypto'
import t from 'tap'
import { startCallers, type Caller, type CallerName } from '../support/callers.ts'
import { routesOf } from '../support/route-table.ts'

/** Who of the matrix's callers stands for a column, in the order of the columns. */
const COLUMNS: readonly (readonly CallerName[])[] = [['none'], ['gst'], ['pub'], ['ali', 'svc'], ['dev'], ['adm', 'root']]

interface Row { patterns: RegExp[], text: string, cells: string[] }

function rowsOfReadme(): Row[] {
  const readme = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8')
  const table = /<!-- access:start -->\n([^]*?)\n<!-- access:end -->/.exec(readme)?.[1] ?? ''
  return table.split('\n').slice(2).map(line => {
    const [text = '', ...cells] = line.split('|').slice(1, -1).map(cell => cell.trim())
    const routes = [...text.matchAll(/`([^`]+)`/g)].map(match => match[1]!).filter(name => name.includes('/'))
    return { text, cells, patterns: routes.map(patternOf) }
  })
}

/** `GET /a/:id` is one route, `/a` all methods, and `…` whatever follows. */
function patternOf(route: string): RegExp {
  const [path = '', method = '[A-Z]+'] = route.split(' ').toReversed()
  return new RegExp(`^${method} ${path.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`).replace(/…$/, '.*')}$`)
}

async function statusOf({ at, headers }: Caller, route: string): Promise<{ status: number, requiredScope: string | undefined }> {
  const [method = '', path = ''] = route.split(' ')
  const answer = await fetch(at.url + path.replaceAll(/[:*]\w*/g, () => randomUUID()), { method, headers, redirect: 'manual' })
  // an answer that goes on for ever is not waited for
  if (answer.status !== 403) {
    await answer.body?.cancel()
    return { status: answer.status, requiredScope: undefined }
  }
  const text = await answer.text()
  return { status: 403, requiredScope: /penstock:[a-z.]+/.exec(text)?.[0] }
}

t.test('the table has every route once, and nothing that is no route; a dash is a refusal, and all else is none', async t => {
  const { services, callers } = await startCallers(t)
  // HEAD goes where GET does; a path that takes every method was retired
  const routes = (await routesOf(services[0]!.app.server)).filter(route => !/^(HEAD|ANY) /.test(route))
  const rows = rowsOfReadme()
  t.ok(routes.length > 30 && rows.length > 10)
  for (const { patterns, text } of rows) for (const pattern of patterns) t.ok(routes.some(route => pattern.test(route)), `${text}: ${pattern} is a route`)
  for (const route of routes) {
    const [row, ...others] = rows.filter(({ patterns }) => patterns.some(pattern => pattern.test(route)))
    if (row === undefined || others.length > 0) {
      t.fail(`${route} is in ${row === undefined ? 'no' : 'more than one'} row`)
      continue
    }
    for (const [index, names] of COLUMNS.entries()) {
      for (const name of names) {
        const { status } = await statusOf(callers[name]!, route)
        t.equal([401, 403].includes(status), row.cells[index]!.startsWith('–'), `${route} by ${name}: ${status}, and the table has "${row.cells[index]}"`)
      }
    }
    const { status: ofNode } = await statusOf(callers.node!, route)
    // routes of GPU nodes are for other nodes alone
    t.equal([401, 403].includes(ofNode), !row.text.includes('`gpu-node`') && row.cells[0]!.startsWith('–'), `${route} by a node: ${ofNode}`)
    const scope = /^(?:own|yes|own, objects): `(penstock:[a-z.]+)`$/.exec(row.cells[3]!)?.[1]
    if (scope === undefined) continue
    const { status, requiredScope } = await statusOf(callers.bare!, route)
    // the routes of the Open Inference Protocol and the flat ones name it in their own ways, or not at all
    t.same([status, requiredScope ?? scope], [403, scope], `${route} without scopes`)
  }
})
