/**
 * What goes wrong at an inference server that is not ours, in words that may leave this machine.
 *
 *   it is not there, is busy, or does not do as agreed (5xx, redirects, rubbish)   node_failed, worth another attempt
 *   it does not take our token                                                     node_failed, not worth one
 *   it does not have the model                                                     invalid_model
 *   it refuses the tensors (any other 4xx)                                         invalid_input
 */
import { plainReason } from '../plain-reason.ts'
import { InferenceFailed } from '../port.ts'

/** An inference server that does not do as agreed. The text is for whoever made the job. */
export function serverFailed(what: string, options: { cause?: unknown, retryable?: boolean } = {}): InferenceFailed {
  return new InferenceFailed('node_failed', `the inference server ${what}`, options)
}

export interface Refusal {
  status: number
  /** What it answered: untrusted. */
  text: string
  /** The model that was asked for, in words. */
  model: string | undefined
  /** Never repeated, whatever the server does with it. */
  token: string | null
}

/** @param what was refused: to look at a model, or to run it */
export function refused(what: 'look' | 'run', { status, text, model, token }: Refusal): InferenceFailed {
  const reason = reasonIn(text, token)
  const said = reason === '' ? '' : `: ${reason}`
  if (status >= 300 && status <= 399) return serverFailed('sends us elsewhere, which is not followed')
  if (status === 401 || status === 403) return serverFailed(token === null ? 'wants a token' : 'does not take our token', { retryable: false })
  if (status === 408 || status === 425 || status === 429) return serverFailed(`is busy${said}`)
  if (status < 400 || status > 499 || model === undefined) return serverFailed(`answered ${status}${said}`)
  if (what === 'look' || status === 404) return new InferenceFailed('invalid_model', `the inference server does not have ${model}${said}`)
  if (status === 413) return new InferenceFailed('invalid_input', 'the tensors are larger than the inference server takes')
  return new InferenceFailed('invalid_input', `the inference server refused the tensors${said}`)
}

/** `{ "error": "<text>" }`, as the protocol has it; a page of a proxy is nothing to repeat. */
function reasonIn(text: string, token: string | null): string {
  try {
    const { error } = Object(JSON.parse(text)) as { error?: unknown }
    if (typeof error !== 'string') return ''
    return plainReason(token === null ? error : error.replaceAll(token, '…'))
  } catch {
    return ''
  }
}
