/**
 * ONNX Runtime (from 1.29) tells Microsoft about this machine, its models and how long they run, and keeps a file of that
 * under HOME, unless this variable is in the environment of the process before its first session. A thread's environment is
 * a copy that the library does not see: there whoever starts the thread has to do it.
 */
export function forbidTelemetry(): void {
  process.env.ORT_DISABLE_TELEMETRY = '1'
}
