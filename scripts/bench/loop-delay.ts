/**
 * Loaded into a process with --import: watches the delay of its event loop, and on SIGUSR2 writes what it saw since the
 * last one as one line, `loop-delay {…}` in milliseconds, to standard error.
 *
 * The histogram holds the time between two runs of a timer of RESOLUTION_MS, so an idle loop shows about that much.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'

const RESOLUTION_MS = 1
const ms = (nanoseconds: number) => nanoseconds / 1e6
const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
histogram.enable()

process.on('SIGUSR2', () => {
  const seen = { p50: ms(histogram.percentile(50)), p99: ms(histogram.percentile(99)), max: ms(histogram.max), count: histogram.count }
  histogram.reset()
  process.stderr.write(`loop-delay ${JSON.stringify(seen)}\n`)
})
