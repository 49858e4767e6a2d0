/** A real Redis for a test: scripts/servers/redis.ts says where it comes from. */
import type { Test } from 'tap'
import { findRedis, provideRedis, startRedis, type Redis, type RedisOptions } from '../../scripts/servers/redis.ts'
import { isRequired } from './minio.ts'

const HOW = 'there is no Redis: `node scripts/servers/redis.ts` gets one'

/**
 * Call it with the test that needs Redis, or with the file's `t`: it ends in that test's teardown, and the test may end it
 * before. Where there is none the tests are skipped, saying so, unless PENSTOCK_REQUIRE lists `redis`: then it is got, or
 * the tests fail.
 */
export async function redisOrSkip(t: Test, options: Omit<RedisOptions, 'program'> = {}): Promise<Redis | undefined> {
  const program = isRequired('redis') ? await provideRedis(line => console.error(line)) : await findRedis()
  if (program === undefined) {
    console.error(`SKIPPED: ${HOW}, PENSTOCK_REQUIRE=redis makes this a failure`)
    void t.test('what needs a Redis', { skip: HOW }, () => {})
    return undefined
  }
  const redis = await startRedis({ ...options, program })
  t.teardown(() => redis.stop())
  return redis
}
