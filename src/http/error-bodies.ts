/** The shapes in which an error leaves, as schemas and as the functions that fill them (contract: common). */
import { Type, type Static } from 'typebox'
import { catalogue, type ErrorName, type ErrorRow, type PenstockError } from '../errors.ts'

export type Dialect = 'flat' | 'nested' | 'oip'

const Details = Type.Object({}, { additionalProperties: true, description: 'facts a caller can act on' })

export const NestedError = Type.Object({
  error: Type.Object({
    code: Type.String({ description: 'lower-case code', examples: ['validation_error'] }),
    message: Type.String(),
    details: Details,
    request_id: Type.String({ description: 'the value of X-Request-Id' })
  })
}, { $id: 'NestedError', title: 'Error', description: 'an error in the nested dialect' })

export const FlatError = Type.Object({
  error: Type.String({ description: 'text' }),
  code: Type.String({ description: 'upper-case code', examples: ['BAD_REQUEST'] }),
  details: Type.Optional(Details)
}, { $id: 'FlatError', title: 'Flat error', description: 'an error in the flat dialect' })

export const OipError = Type.Object({
  error: Type.String({ description: 'text' })
}, { $id: 'OipError', title: 'Open Inference Protocol error', description: 'an error as the Open Inference Protocol has it' })

/** Status of an error in a dialect. */
export function statusOf(name: ErrorName, dialect: Dialect): number {
  const row: ErrorRow = catalogue[name]
  return dialect === 'flat' ? row.flatStatus ?? row.status : row.status
}

/** Code of an error in a dialect; the protocol's has none, there it stands in the documentation and the log only. */
export function codeOf(name: ErrorName, dialect: Dialect): string {
  const row: ErrorRow = catalogue[name]
  return dialect === 'flat' ? row.flat ?? name : row.nested
}

/** Body of an error in a dialect. Of 5xx only what the catalogue says leaves: no text and no details of the thrower. */
export function bodyOf(error: PenstockError, dialect: Dialect, requestId: string): Static<typeof NestedError> | Static<typeof FlatError> | Static<typeof OipError> {
  const row: ErrorRow = catalogue[error.code]
  const hidden = row.status >= 500
  const message = hidden ? row.message : error.message
  if (dialect === 'oip') return { error: message }
  const details = hidden ? undefined : error.details
  const code = codeOf(error.code, dialect)
  if (dialect === 'nested') return { error: { code, message, details: details ?? {}, request_id: requestId } }
  return { error: message, code, ...(details !== undefined && { details }) }
}
