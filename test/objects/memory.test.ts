import t from 'tap'
import { memoryObjectStore } from '../../src/objects/memory.ts'
import { objectStoreContract } from '../contract/object-store.ts'

objectStoreContract(t, 'memory', async () => ({ store: memoryObjectStore(), atomicCopy: true, partMinBytes: 1000 }))
