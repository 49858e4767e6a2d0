/**
 * Disks of a few MiB: tmpfs in a mount namespace of the test file's own, which nobody else sees and which ends with it. Root may
 * make one, and so may anybody where the kernel lets users have namespaces of their own.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

const INSIDE = 'PENSTOCK_TEST_OWN_MOUNTS'

/**
 * Runs the test file once more, in a namespace where smallDisk() works. True: this is that run. Where there can be none its tests
 * are skipped, saying so.
 */
export function inOwnMounts(t: Test, file: string): boolean {
  if (process.env[INSIDE] !== undefined) return true
  const reasons: string[] = []
  for (const options of [['--mount'], ['--mount', '--map-root-user']]) {
    try {
      execFileSync('unshare', [...options, 'mount', '-t', 'tmpfs', '-o', 'size=1m', 'none', tmpdir()], { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' })
      void t.spawn('unshare', [...options, process.execPath, ...process.execArgv, file], { env: { ...process.env, [INSIDE]: '1' } }, 'with disks of its own')
      return false
    } catch (error) {
      reasons.push((error as Error).message.trim().split('\n').at(-1)!)
    }
  }
  const why = `no small file system can be mounted here: ${reasons.join('; ')}`
  console.error(`SKIPPED: ${why}`)
  void t.test('what needs a disk that is full', { skip: why }, () => {})
  return false
}

export interface SmallDisk {
  folder: string
  /** Takes all of what is free but for so many bytes. */
  fill(except?: number): Promise<void>
  /** Gives back what fill() took. */
  makeRoom(): Promise<void>
}

export function smallDisk(t: Test, mib: number): SmallDisk {
  const folder = mkdtempSync(join(tmpdir(), 'penstock-disk-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'none', folder])
  t.teardown(() => {
    execFileSync('umount', ['--lazy', folder])
    rmSync(folder, { recursive: true })
  })
  const ballast = join(folder, 'ballast')
  return {
    folder,
    async fill(except = 0) {
      const file = await open(ballast, 'a')
      try {
        const piece = Buffer.alloc(4096)
        for (;;) await file.appendFile(piece)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        await file.truncate(Math.max(0, (await file.stat()).size - except))
      } finally {
        await file.close()
      }
    },
    makeRoom: () => rm(ballast, { force: true })
  }
}
