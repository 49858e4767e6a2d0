import t from 'tap'
import { compareVersions } from '../../src/records/version-precedence.ts'

t.test('versions come in the order of section 11 of Semantic Versioning', async t => {
  const ordered = [
    '0.0.1', '0.9.10', '0.10.0', '1.0.0-0', '1.0.0-9', '1.0.0-10', '1.0.0-alpha', '1.0.0-alpha.1', '1.0.0-alpha.beta', '1.0.0-beta', '1.0.0-beta.2',
    '1.0.0-beta.11', '1.0.0-rc.1', '1.0.0', '1.0.1', '1.2.0', '1.10.0', '2.0.0', '2.1.0', '2.1.1', '10.0.0',
    '90071992547409930.0.0', '90071992547409931.0.0'
  ]
  for (const [index, version] of ordered.entries()) {
    for (const [other, text] of ordered.entries()) {
      t.equal(Math.sign(compareVersions(version, text)), Math.sign(index - other), `${version} and ${text}`)
    }
  }
})

t.test('letters are compared by their bytes, capitals first', async t => {
  t.ok(compareVersions('1.0.0-Z', '1.0.0-a') < 0)
})

t.test('build metadata does not count', async t => {
  t.equal(compareVersions('1.0.0+a', '1.0.0+b'), 0)
  t.equal(compareVersions('1.0.0+a', '1.0.0'), 0)
  t.ok(compareVersions('1.0.0-rc.1+z', '1.0.0+a') < 0)
})

t.test('text that is no version comes before every version', async t => {
  for (const text of ['', '1.0', 'latest', 'v1.0.0', '1.0.0-', '1.0.0\n']) {
    t.ok(compareVersions(text, '0.0.0-0') < 0, text)
    t.ok(compareVersions('0.0.0-0', text) > 0, text)
  }
  t.equal(compareVersions('latest', 'newest'), 0)
})

t.test('a whole number stands for its first version', async t => {
  const ordered = ['2.9.9', '3.0.0-rc.1', '3', '3.0.1', '3.1.0', '10', '10.0.1', '90071992547409930', '90071992547409931']
  for (const [index, version] of ordered.entries()) {
    for (const [other, text] of ordered.entries()) t.equal(Math.sign(compareVersions(version, text)), Math.sign(index - other), `${version} and ${text}`)
  }
  t.equal(compareVersions('3', '3.0.0'), 0)
})
