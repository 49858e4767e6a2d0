/** What a value lacks of its schema, in words for people. */
import type { TSchema } from 'typebox'
import { Check, Errors } from 'typebox/value'

/** `path` is '' for the value as a whole. */
export interface SchemaIssue { path: string, message: string }

export interface IssueWords {
  /** of a key that is not known */
  unknownKey: string
  /** of values that have to match one of several schemas, by path */
  oneOf?: Readonly<Record<string, string>>
}

type SchemaError = ReturnType<typeof Errors>[number]

/** Empty: it fits. */
export function schemaIssues(schema: TSchema, value: unknown, words: IssueWords): SchemaIssue[] {
  return Check(schema, value) ? [] : Errors(schema, value).flatMap(error => issuesOf(error, words))
}

function issuesOf({ keyword, schemaPath, instancePath, params, message }: SchemaError, { unknownKey, oneOf = {} }: IssueWords): SchemaIssue[] {
  // the alternatives of a union, and the object around a key that is not known: said once, by the other
  if (schemaPath.includes('/anyOf/') || keyword === 'additionalProperties') return []
  const path = instancePath.split('/').slice(1).join('.')
  switch (keyword) {
    case 'boolean': return [{ path, message: unknownKey }]
    case 'required': return (params as { requiredProperties: string[] }).requiredProperties.map(name => ({ path: path === '' ? name : `${path}.${name}`, message: 'is required' }))
    case 'enum': return [{ path, message: `must be one of ${(params as { allowedValues: unknown[] }).allowedValues.join(', ')}` }]
    case 'anyOf': return [{ path, message: oneOf[path] ?? message }]
    default: return [{ path, message }]
  }
}
