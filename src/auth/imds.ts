// Whether this machine has an instance metadata service (IMDS): a look before the leap, because asking for a
// token where there is none takes far longer than anyone waits for `auto`.

import http from 'node:http'

const IMDS_ORIGIN = 'http://169.254.169.254'

/**
 * Asks without the header that IMDS demands, so a metadata service refuses at once, which is proof enough. Never
 * goes through a proxy. Does not reject.
 *
 * @param origin the value of AZURE_POD_IDENTITY_AUTHORITY_HOST, if set
 */
export function probeImds(origin: string | undefined, timeoutMs: number): Promise<boolean> {
  return new Promise(resolve => {
    const url = `${origin?.replace(/\/+$/, '') || IMDS_ORIGIN}/metadata/identity/oauth2/token`
    if (!URL.canParse(url) || !url.startsWith('http:')) return resolve(false)
    const request = http.get(url, { agent: false, signal: AbortSignal.timeout(timeoutMs) }, response => {
      let body = ''
      response.setEncoding('latin1')
      response.on('data', (chunk: string) => {
        body = (body + chunk).slice(0, 4096)
      })
      // Docker Desktop answers for a network that it cannot reach.
      response.on('end', () => resolve(!(response.statusCode === 403 && body.includes('unreachable'))))
      response.on('error', () => resolve(false))
    })
    request.on('error', () => resolve(false))
  })
}
