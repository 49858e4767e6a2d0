/**
 * The rules of an extension's manifest (contract: ingest, bundles). Every rule is tried and every issue collected, so
 * that an author mends all of them at once; the manifest that comes out is the normalised one: known keys only at the
 * top, methods in upper case, paths with one leading slash. Whatever else `ui`, `api` and endpoints hold is kept.
 *
 * Before the rules, the document itself is looked over: text that cannot be stored (NUL, lone surrogates), names that
 * reach into prototypes, and nesting that writing it out again would recurse on.
 */
import { MANIFEST_DEPTH_MAX, MANIFEST_IDENTITY_MAX_BYTES, MANIFEST_ISSUES_MAX, MANIFEST_MAX_BYTES } from '../../limits.ts'
import { invalidManifest, type ManifestIssue } from './bundle-errors.ts'

export interface ManifestEndpoint { method: string, path: string, handler: string, [other: string]: unknown }

export interface Manifest {
  name: string
  publisher?: string
  version: string
  runtime: string
  capabilities?: string[]
  ui?: { type: 'iframe', entry: string, [other: string]: unknown }
  api?: { endpoints?: ManifestEndpoint[], [other: string]: unknown }
  assets?: string[]
  precompiled?: Record<string, string>
}

type JsonObject = Record<string, unknown>
/** Notes an issue. */
type Report = (path: string, message: string) => void
/** Checks a value and returns it normalised; what it returns after a report is not used. */
type Rule = (value: unknown, path: string, report: Report) => unknown

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']
/** semver.org, item 2, 9 and 10: the pattern suggested there. */
const SEMVER = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-((0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$/
const RESERVED = ['__proto__', 'constructor', 'prototype']
const PATH_KEY_MAX_CHARACTERS = 64

/** One row for each key that may stand at the top. */
const rules: Record<keyof Manifest, { required?: true, rule: Rule }> = {
  name: { required: true, rule: identity },
  publisher: { rule: identity },
  version: { required: true, rule: version },
  runtime: { required: true, rule: runtime },
  capabilities: { rule: strings },
  ui: { rule: ui },
  api: { rule: api },
  assets: { rule: strings },
  precompiled: { rule: precompiled }
}

/** The manifest in `text`, normalised. Throws INVALID_MANIFEST with `details.issues`, at most MANIFEST_ISSUES_MAX of them. */
export function parseManifest(text: string): Manifest {
  const issues: ManifestIssue[] = []
  const report: Report = (path, message) => {
    if (issues.length < MANIFEST_ISSUES_MAX) issues.push({ path, message })
  }
  const manifest = read(text, report)
  if (issues.length > 0) throw invalidManifest(issues)
  return manifest as unknown as Manifest
}

function read(text: string, report: Report): JsonObject {
  const document = parse(text, report)
  if (document === undefined) return {}
  if (!isObject(document)) {
    report('', 'must be a JSON object')
    return {}
  }
  inspect(document, '', 1, report)
  for (const key of Object.keys(document)) {
    if (!Object.hasOwn(rules, key) && !RESERVED.includes(key)) report(member('', key), `is not a key of a manifest: only ${Object.keys(rules).join(', ')} are`)
  }
  return applyRules(document, report)
}

/** undefined where there is no document. */
function parse(text: string, report: Report): unknown {
  if (Buffer.byteLength(text) > MANIFEST_MAX_BYTES) {
    report('', `must be at most ${MANIFEST_MAX_BYTES} bytes`)
    return undefined
  }
  try {
    // RFC 8259, 8.1: a byte order mark is not part of JSON, but may be passed over.
    return JSON.parse(text.startsWith('\uFEFF') ? text.slice(1) : text)
  } catch (error) {
    report('', `must be JSON: ${(error as Error).message}`)
    return undefined
  }
}

function applyRules(document: JsonObject, report: Report): JsonObject {
  const manifest: JsonObject = {}
  for (const [key, { required, rule }] of Object.entries(rules)) {
    if (Object.hasOwn(document, key)) manifest[key] = rule(document[key], key, report)
    else if (required) report(key, 'is required')
  }
  return manifest
}

/** Looks at every name and text in the document. Does not go deeper than is allowed. */
function inspect(value: unknown, path: string, depth: number, report: Report): void {
  if (typeof value === 'string') return inspectText(value, path, report)
  if (typeof value !== 'object' || value === null) return
  if (depth > MANIFEST_DEPTH_MAX) return report(path, `is nested more than ${MANIFEST_DEPTH_MAX} levels deep`)
  if (Array.isArray(value)) {
    value.forEach((item, index) => inspect(item, `${path}[${index}]`, depth + 1, report))
    return
  }
  for (const [key, item] of Object.entries(value)) {
    const at = member(path, key)
    inspectText(key, at, report)
    if (RESERVED.includes(key)) report(at, 'has a reserved name')
    inspect(item, at, depth + 1, report)
  }
}

function inspectText(text: string, path: string, report: Report): void {
  if (!text.isWellFormed()) report(path, 'must not contain lone surrogates')
  if (text.includes('\0')) report(path, 'must not contain NUL')
}

function identity(value: unknown, path: string, report: Report): unknown {
  nonBlank(value, path, report)
  if (typeof value === 'string' && Buffer.byteLength(value) > MANIFEST_IDENTITY_MAX_BYTES) report(path, `must be at most ${MANIFEST_IDENTITY_MAX_BYTES} bytes`)
  return value
}

function version(value: unknown, path: string, report: Report): unknown {
  identity(value, path, report)
  if (isNonBlank(value) && !SEMVER.test(value)) report(path, 'must be X.Y.Z with an optional pre-release and build, as in 1.4.0-rc.1+42')
  return value
}

function runtime(value: unknown, path: string, report: Report): unknown {
  nonBlank(value, path, report)
  if (isNonBlank(value) && !/[@-]/.test(value)) report(path, 'must contain @ or -, as in node@24 or wasm-js')
  return value
}

function strings(value: unknown, path: string, report: Report): unknown {
  if (Array.isArray(value)) value.forEach((item, index) => nonBlank(item, `${path}[${index}]`, report))
  else report(path, 'must be an array of strings')
  return value
}

function precompiled(value: unknown, path: string, report: Report): unknown {
  if (!isObject(value)) return report(path, 'must be an object of strings')
  for (const [key, item] of Object.entries(value)) {
    if (typeof item !== 'string') report(member(path, key), 'must be a string')
  }
  return value
}

function ui(value: unknown, path: string, report: Report): unknown {
  if (!isObject(value)) return report(path, 'must be an object')
  if (value['type'] !== 'iframe') report(`${path}.type`, "must be 'iframe'")
  withoutParents(value['entry'], `${path}.entry`, report)
  return value
}

function api(value: unknown, path: string, report: Report): unknown {
  if (!isObject(value)) return report(path, 'must be an object')
  if (!Object.hasOwn(value, 'endpoints')) return value
  const { endpoints } = value
  if (!Array.isArray(endpoints)) return report(`${path}.endpoints`, 'must be an array')
  return { ...value, endpoints: endpoints.map((item, index) => endpoint(item, `${path}.endpoints[${index}]`, report)) }
}

function endpoint(value: unknown, path: string, report: Report): unknown {
  if (!isObject(value)) return report(path, 'must be an object')
  const method = endpointMethod(value['method'], `${path}.method`, report)
  const normalPath = endpointPath(value['path'], `${path}.path`, report)
  withoutParents(value['handler'], `${path}.handler`, report)
  return { ...value, method, path: normalPath }
}

function endpointMethod(value: unknown, path: string, report: Report): unknown {
  const method = typeof value === 'string' ? value.toUpperCase() : ''
  if (!METHODS.includes(method)) report(path, `must be one of ${METHODS.join(', ')}`)
  return method
}

function endpointPath(value: unknown, path: string, report: Report): unknown {
  withoutParents(value, path, report)
  if (!isNonBlank(value)) return value
  if (/\s/.test(value)) report(path, 'must not contain white space')
  return value.replace(/^\/*/, '/')
}

function withoutParents(value: unknown, path: string, report: Report): void {
  nonBlank(value, path, report)
  if (typeof value === 'string' && value.includes('..')) report(path, "must not contain '..'")
}

function nonBlank(value: unknown, path: string, report: Report): void {
  if (!isNonBlank(value)) report(path, 'must be a string that is not blank')
}

function isNonBlank(value: unknown): value is string {
  return typeof value === 'string' && value.trim() !== ''
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** `path.key`, or `path["key"]` where the key is not a plain word. */
function member(path: string, key: string): string {
  const name = key.slice(0, PATH_KEY_MAX_CHARACTERS).toWellFormed()
  if (!/^[\w$-]+$/.test(name)) return `${path}[${JSON.stringify(name)}]`
  return path === '' ? name : `${path}.${name}`
}
