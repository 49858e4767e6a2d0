/** A real nginx for a test: scripts/servers/nginx.ts says where it comes from. */
import type { Test } from 'tap'
import { findNginx, provideNginx, startNginx, type Nginx, type NginxOptions } from '../../scripts/servers/nginx.ts'
import { isRequired } from './minio.ts'

const HOW = 'there is no nginx: `node scripts/servers/nginx.ts` gets one'

/**
 * Call it with the test that needs nginx, or with the file's `t`: it ends in that test's teardown. Where there is none the
 * tests are skipped, saying so, unless PENSTOCK_REQUIRE lists `nginx`: then it is got, or the tests fail.
 */
export async function nginxOrSkip(t: Test, options: Omit<NginxOptions, 'program'> = {}): Promise<Nginx | undefined> {
  const program = isRequired('nginx') ? await provideNginx(line => console.error(line)) : await findNginx()
  if (program === undefined) {
    console.error(`SKIPPED: ${HOW}, PENSTOCK_REQUIRE=nginx makes this a failure`)
    void t.test('what needs an nginx', { skip: HOW }, () => {})
    return undefined
  }
  const nginx = await startNginx({ ...options, program })
  t.teardown(() => nginx.stop())
  return nginx
}
