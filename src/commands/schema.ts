// `entra-proxy schema`: the JSON Schema of the configuration file, for editors.

import { jsonSchema } from '../config/schema.ts'
import { EXIT, type ExitCode } from '../errors.ts'
import type { Io } from './io.ts'

/** Prints config/entra-proxy.schema.json as it should be now. */
export function runSchema(io: Pick<Io, 'out'>): ExitCode {
  io.out(JSON.stringify(jsonSchema(), null, 2))
  return EXIT.ok
}
