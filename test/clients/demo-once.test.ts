// What a newcomer runs first, as a process of its own: the tour of the demo.

import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { openStandin } from '../helpers/standin-client.ts'

/** How every client secret of the stand-in begins: each run makes its own. */
const SECRET = 'standin~'
/** How every JWT begins. */
const TOKEN = 'eyJ'

t.test(
  'demo --once ends well and shows no secret, whatever the environment says of Azure and proxies',
  async t => {
    const { standin, token } = await openStandin(t)
    t.ok(standin.clientSecret.startsWith(SECRET), 'a secret would be known by its beginning')
    t.ok((await token(standin.batch.scope)).startsWith(TOKEN), 'and so would a token')

    const nowhere = 'http://127.0.0.1:9'
    const args = ['dist/entra-proxy.js', 'demo', '--once', '-p', '0', '--admin-listen', 'off']
    const child = spawn(process.execPath, args, {
      env: {
        ...process.env,
        AZURE_AUTHORITY_HOST: nowhere,
        AZURE_CLIENT_ID: 'someone-else',
        IDENTITY_ENDPOINT: nowhere,
        IDENTITY_HEADER: 'x',
        HTTP_PROXY: nowhere,
        HTTPS_PROXY: nowhere,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const exit = new Promise(resolve => child.on('close', resolve))
    const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
    t.equal(await exit, 0, err)
    t.match(out, /(\d+) of \1 steps as they should be/)
    const all = out + err
    for (const never of ['FAIL', TOKEN, SECRET]) t.notOk(all.includes(never), never)
  },
)
