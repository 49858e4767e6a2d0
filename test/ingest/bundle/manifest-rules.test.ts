import t from 'tap'
import { isPenstockError } from '../../../src/errors.ts'
import type { ManifestIssue } from '../../../src/ingest/bundle/bundle-errors.ts'
import { parseManifest } from '../../../src/ingest/bundle/manifest-rules.ts'
import { MANIFEST_DEPTH_MAX, MANIFEST_IDENTITY_MAX_BYTES, MANIFEST_ISSUES_MAX, MANIFEST_MAX_BYTES } from '../../../src/limits.ts'
import { sampleManifest } from '../../support/bundles.ts'

const least = { name: 'a', version: '1.0.0', runtime: 'node@24' }
const endpoint = { method: 'GET', path: '/x', handler: 'dist/x' }

t.test('a manifest that keeps every rule comes out as it went in', async t => {
  t.same(parseManifest(JSON.stringify(sampleManifest)), sampleManifest)
  t.same(parseManifest(JSON.stringify(least)), least, 'name, version and runtime are enough')
})

t.test('methods come out in upper case and paths with one leading slash', async t => {
  const endpoints = [{ ...endpoint, method: 'get', path: 'a/b' }, { ...endpoint, method: 'Options', path: '///c//d' }]
  const manifest = parseManifest(JSON.stringify({ ...least, api: { endpoints } }))
  t.same(manifest.api?.endpoints, [{ ...endpoint, path: '/a/b' }, { ...endpoint, method: 'OPTIONS', path: '/c//d' }])
})

t.test('all seven verbs are methods, and no other', async t => {
  for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) t.same(issuesOf(withEndpoint({ method })), [], method)
  for (const method of ['TRACE', 'CONNECT', '', ' GET', 'GET ', 7, null]) t.same(pathsOf(withEndpoint({ method })), ['api.endpoints[0].method'], String(method))
})

t.test('what else stands inside ui, api and endpoints is kept', async t => {
  const manifest = { ...least, ui: { type: 'iframe', entry: 'i.html', routes: ['/a'] }, api: { version: 2, endpoints: [{ ...endpoint, auth: true }] } }
  t.same(parseManifest(JSON.stringify(manifest)), manifest)
})

t.test('text that is no JSON object is one issue of the whole', async t => {
  for (const text of ['', '   ', '{', 'name: x', '[]', '"x"', 'null', '7', '{} {}']) {
    t.match(textIssues(text), [{ path: '', message: /^must be (JSON: .+|a JSON object)$/ }], text)
  }
})

t.test('a byte order mark before the document is passed over', async t => {
  t.same(parseManifest(`\uFEFF${JSON.stringify(least)}`), least)
})

t.test('a manifest larger than 1 MiB is refused unread', async t => {
  t.match(textIssues(JSON.stringify({ ...least, assets: ['x'.repeat(MANIFEST_MAX_BYTES)] })), [{ path: '', message: /1048576 bytes/ }])
  t.match(textIssues(`${JSON.stringify(least)}${' '.repeat(MANIFEST_MAX_BYTES)}`), [{ path: '', message: /1048576 bytes/ }])
})

t.test('each rule is one issue at its own path', async t => {
  const cases: [manifest: object, ...paths: string[]][] = [
    [{ ...least, extra: 1 }, 'extra'],
    [{ ...least, 'odd key': 1 }, '["odd key"]'],
    [{ version: '1.0.0', runtime: 'a@1' }, 'name'],
    [{ name: 'a', runtime: 'a@1' }, 'version'],
    [{ name: 'a', version: '1.0.0' }, 'runtime'],
    [{ ...least, name: ' \t' }, 'name'],
    [{ ...least, name: 7 }, 'name'],
    [{ ...least, name: null }, 'name'],
    [{ ...least, name: 'é'.repeat(MANIFEST_IDENTITY_MAX_BYTES / 2 + 1) }, 'name'],
    [{ ...least, publisher: '' }, 'publisher'],
    [{ ...least, publisher: null }, 'publisher'],
    [{ ...least, runtime: 'node' }, 'runtime'],
    [{ ...least, runtime: ' ' }, 'runtime'],
    [{ ...least, capabilities: 'all' }, 'capabilities'],
    [{ ...least, capabilities: {} }, 'capabilities'],
    [{ ...least, capabilities: ['a', '', 'b', 3] }, 'capabilities[1]', 'capabilities[3]'],
    [{ ...least, assets: [' '] }, 'assets[0]'],
    [{ ...least, assets: null }, 'assets'],
    [{ ...least, precompiled: [] }, 'precompiled'],
    [{ ...least, precompiled: { a: 1, 'b/c': null, d: 'x' } }, 'precompiled.a', 'precompiled["b/c"]'],
    [{ ...least, ui: 'iframe' }, 'ui'],
    [{ ...least, ui: {} }, 'ui.type', 'ui.entry'],
    [{ ...least, ui: { type: 'Iframe', entry: 'a' } }, 'ui.type'],
    [{ ...least, ui: { type: 'iframe', entry: 'a/../../b' } }, 'ui.entry'],
    [{ ...least, ui: { type: 'iframe', entry: ' ' } }, 'ui.entry'],
    [{ ...least, api: [] }, 'api'],
    [{ ...least, api: { endpoints: {} } }, 'api.endpoints'],
    [{ ...least, api: { endpoints: null } }, 'api.endpoints'],
    [{ ...least, api: { endpoints: [endpoint, 'x'] } }, 'api.endpoints[1]'],
    [{ ...least, api: { endpoints: [endpoint, {}] } }, 'api.endpoints[1].method', 'api.endpoints[1].path', 'api.endpoints[1].handler'],
    [withEndpoint({ path: '/a b' }), 'api.endpoints[0].path'],
    [withEndpoint({ path: '/a\u2003b' }), 'api.endpoints[0].path'],
    [withEndpoint({ path: '/a\n' }), 'api.endpoints[0].path'],
    [withEndpoint({ path: '/a/../b' }), 'api.endpoints[0].path'],
    [withEndpoint({ path: '' }), 'api.endpoints[0].path'],
    [withEndpoint({ handler: '../dist/x' }), 'api.endpoints[0].handler'],
    [withEndpoint({ handler: ' ' }), 'api.endpoints[0].handler']
  ]
  for (const [manifest, ...paths] of cases) t.same(pathsOf(manifest), paths, JSON.stringify(manifest).slice(0, 100))
})

t.test('versions are X.Y.Z with an optional pre-release and build', async t => {
  for (const version of ['0.0.0', '1.2.3', '10.20.30', '1.0.0-rc.1', '1.0.0-0.3.7', '1.0.0-x-y.z', '1.0.0+build.5', '1.0.0-a+001']) {
    t.same(issuesOf({ ...least, version }), [], version)
  }
  for (const version of ['1', '1.2', '1.2.3.4', 'v1.2.3', '01.2.3', '1.2.3-', '1.2.3+', '1.2.3-01', '1.2.3-a..b', '1.2.3 ', '1.2.3\n', '', '1.2.x', 1, `1.0.0-${'a'.repeat(300)}`]) {
    t.same(pathsOf({ ...least, version }), ['version'], JSON.stringify(version).slice(0, 40))
  }
})

t.test('a version made to keep a pattern busy is decided at once', { timeout: 2000 }, async t => {
  for (const text of [`1.0.0-${'0'.repeat(500_000)}!`, `1.0.0-${'a.'.repeat(250_000)}!`, `1.0.0-${'-1'.repeat(250_000)}+`]) {
    t.ok(issuesOf({ ...least, version: text }).every(issue => issue.path === 'version'))
  }
})

t.test('all issues of a manifest are told at once', async t => {
  const manifest = { version: '1', runtime: 'x', extra: true, ui: { type: 'page', entry: '..' }, api: { endpoints: [{ method: 'FETCH', path: 'a b', handler: '..' }] } }
  t.same(pathsOf(manifest).toSorted(), [
    'api.endpoints[0].handler', 'api.endpoints[0].method', 'api.endpoints[0].path', 'extra', 'name', 'runtime', 'ui.entry', 'ui.type', 'version'
  ])
})

t.test('of countless issues only the first hundred are told', async t => {
  t.equal(issuesOf({ ...least, assets: Array.from({ length: 100_000 }, () => '') }).length, MANIFEST_ISSUES_MAX)
  const keys = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`${i}-${'k'.repeat(500)}`, 1]))
  t.ok(JSON.stringify(issuesOf({ ...least, ...keys })).length < 50_000, 'and long keys are cut')
})

t.test('names that reach into prototypes are refused anywhere, and reach nothing', async t => {
  const texts = {
    '__proto__': '{"name":"a","version":"1.0.0","runtime":"a@1","__proto__":{"polluted":1}}',
    'constructor': '{"name":"a","version":"1.0.0","runtime":"a@1","constructor":{}}',
    'precompiled.__proto__': '{"name":"a","version":"1.0.0","runtime":"a@1","precompiled":{"__proto__":"x"}}',
    'ui.routes[0].prototype': '{"name":"a","version":"1.0.0","runtime":"a@1","ui":{"type":"iframe","entry":"x","routes":[{"prototype":1}]}}'
  }
  for (const [path, text] of Object.entries(texts)) t.match(textIssues(text), [{ path, message: 'has a reserved name' }], path)
  t.notOk('polluted' in {})
})

t.test('required keys cannot be inherited from a prototype', async t => {
  t.ok(textIssues('{"__proto__":{"name":"a","version":"1.0.0","runtime":"a@1"}}').some(issue => issue.path === 'name' && issue.message === 'is required'))
})

t.test('nesting is bounded, and bottomless nesting breaks nothing', async t => {
  t.ok(parseManifest(nestedTo(MANIFEST_DEPTH_MAX - 2)))
  t.match(textIssues(nestedTo(MANIFEST_DEPTH_MAX - 1)), [{ path: /^api\.x(\[0\])+$/, message: /nested/ }])
  t.match(textIssues(nestedTo(400_000)), [{ path: /^api\.x(\[0\])+$/, message: /nested|JSON/ }])
})

t.test('text that cannot be stored is refused, in values and in names', async t => {
  t.match(textIssues('{"name":"\\ud800","version":"1.0.0","runtime":"a@1"}'), [{ path: 'name', message: /surrogate/ }])
  t.match(textIssues('{"name":"a\\u0000b","version":"1.0.0","runtime":"a@1"}'), [{ path: 'name', message: /NUL/ }])
  t.match(textIssues('{"name":"a","version":"1.0.0","runtime":"a@1","precompiled":{"\\udfff":"x"}}'), [{ message: /surrogate/ }])
  t.equal(parseManifest(JSON.stringify({ ...least, name: 'Übung 🚀' })).name, 'Übung 🚀')
})

function nestedTo(levels: number): string {
  return JSON.stringify(least).replace('}', `,"api":{"x":${'['.repeat(levels)}${']'.repeat(levels)}}}`)
}

function withEndpoint(change: object): object {
  return { ...least, api: { endpoints: [{ ...endpoint, ...change }] } }
}

function pathsOf(manifest: object): string[] {
  return issuesOf(manifest).map(issue => issue.path)
}

function issuesOf(manifest: object): ManifestIssue[] {
  return textIssues(JSON.stringify(manifest))
}

/** Empty where the manifest is accepted. */
function textIssues(text: string): ManifestIssue[] {
  try {
    parseManifest(text)
    return []
  } catch (error) {
    if (isPenstockError(error, 'INVALID_MANIFEST')) return error.details!['issues'] as ManifestIssue[]
    throw error
  }
}
