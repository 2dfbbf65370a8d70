// undici has no types for its inner files; this one is the Client its entry exports.
declare module 'undici/lib/dispatcher/client.js' {
  import type { Client } from 'undici'

  const client: typeof Client
  export default client
}
