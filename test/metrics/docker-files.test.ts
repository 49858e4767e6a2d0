/** What is in docker/ for Prometheus and Grafana, held against the metrics that the service has and against the README. */
import t from 'tap'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pythonOrSkip } from '../support/python.ts'
import { startApp } from '../support/start-app.ts'

const ROOT = join(import.meta.dirname, '../..')
const ALERTS = join(ROOT, 'docker/alerts.yml')
const DASHBOARD = join(ROOT, 'docker/grafana/dashboards/penstock.json')

interface Panel { id: number, type: string, title: string, datasource?: { uid: string }, gridPos: { x: number, y: number, w: number, h: number }, targets?: { expr: string }[] }

const rules = readFileSync(ALERTS, 'utf8')
const dashboard = JSON.parse(readFileSync(DASHBOARD, 'utf8')) as { uid: string, panels: Panel[] }

/** Names of series, with the labels that each may have. */
async function seriesOf(url: string): Promise<Set<string>> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type] as const)
  return new Set(types.flatMap(([name, type]) => type === 'histogram' ? ['_bucket', '_sum', '_count'].map(end => name + end) : [name]))
}

function namesIn(text: string): string[] {
  return [...new Set(text.match(/\b(?:penstock|nodejs|process)_\w+/g))]
}

t.test('every metric of a rule or a dashboard is one that the service has', async t => {
  const { url } = await startApp(t)
  const series = await seriesOf(url)
  const expressions = rules.replaceAll(/^\s*(?:#|summary:|action:).*$/gm, '')
  const named = [...namesIn(expressions), ...namesIn(JSON.stringify(dashboard.panels.map(({ targets }) => targets)))]
  t.ok(named.length > 20)
  t.same(named.filter(name => !series.has(name)), [])
})

t.test('every metric that the service counts by itself is on the dashboard or in a rule, but for what only says what it is', async t => {
  const { url } = await startApp(t)
  const own = [...await seriesOf(url)].filter(name => name.startsWith('penstock_') && !/_(sum|count|bucket|info)$/.test(name))
  const shown = new Set(namesIn(rules + JSON.stringify(dashboard)))
  t.same(own.filter(name => !shown.has(name)), [])
})

t.test('every alert says what it is and what to do, and the README has it', t => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const alerts = rules.split(/^ +- alert: /m).slice(1)
  t.ok(alerts.length > 10)
  for (const alert of alerts) {
    const name = alert.slice(0, alert.indexOf('\n'))
    const [, ...texts] = /severity: (page|ticket) \}\n +annotations:\n +summary: (\S.*)\n +action: (\S.*)/.exec(alert) ?? []
    t.equal(texts.length, 3, name)
    t.ok(readme.includes(`\n| ${[`\`${name}\``, ...texts].join(' | ')} |\n`), `${name} is in the README, in the same words`)
  }
  const named = [...readme.matchAll(/^\| `(Penstock\w+)`/gm)].map(match => match[1])
  t.same(named, alerts.map(alert => alert.slice(0, alert.indexOf('\n'))), 'in this order, and no others')
  t.end()
})

t.test('panels of the dashboard have ids of their own, a source that is provisioned, and do not overlap', t => {
  const source = /uid: (\S+)/.exec(readFileSync(join(ROOT, 'docker/grafana/provisioning/datasources/prometheus.yml'), 'utf8'))?.[1]
  const { panels } = dashboard
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
  const cells = new Set<string>()
  for (const { type, title, datasource, targets = [], gridPos: { x, y, w, h } } of panels) {
    if (type !== 'row') t.ok(targets.length > 0 && datasource?.uid === source, title)
    t.ok(x + w <= 24, title)
    for (let row = y; row < y + h; row += 1) {
      for (let column = x; column < x + w; column += 1) {
        t.notOk(cells.has(`${row} ${column}`), title)
        cells.add(`${row} ${column}`)
      }
    }
  }
  t.end()
})

t.test('compose mounts these files where Prometheus and Grafana look for them, at versions that do not move', t => {
  const compose = readFileSync(join(ROOT, 'compose.yaml'), 'utf8')
  for (const mount of ['prometheus.yml:/etc/prometheus/prometheus.yml:ro', 'alerts.yml:/etc/prometheus/alerts.yml:ro', 'grafana/provisioning:/etc/grafana/provisioning:ro', 'grafana/dashboards:/var/lib/grafana/dashboards:ro']) {
    t.ok(compose.includes(`- ./docker/${mount}`), mount)
  }
  t.match(readFileSync(join(ROOT, 'docker/prometheus.yml'), 'utf8'), 'rule_files: [/etc/prometheus/alerts.yml]')
  t.match(compose, /image: prom\/prometheus:v\d+\.\d+\.\d+$/m)
  t.match(compose, /image: grafana\/grafana:\d+\.\d+\.\d+$/m)
  t.end()
})

const python = await pythonOrSkip(t)
if (python !== undefined) {
  void t.test('a parser of PromQL takes every expression', async t => {
    const read = await python(join(import.meta.dirname, 'python/read_promql.py'), ALERTS, DASHBOARD) as { name: string, expression: string, error?: string }[]
    t.ok(read.length > 40)
    for (const { name, expression, error } of read) t.equal(error, undefined, `${name}: ${expression}`)
  })
}
