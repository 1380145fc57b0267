// A certified OpenID provider for the tests: device flow, JWT access tokens for one API, refresh tokens that rotate.
// Arguments: port, audience, life of access tokens in seconds. Claims of a user are JSON in the account's id, base64url.
import Provider from 'oidc-provider'

const [port, audience, life] = [Number(process.argv[2]), process.argv[3], Number(process.argv[4])]
const issuer = `http://localhost:${port}`
let grants = 0
const people = new Map()

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'documents-device',
    token_endpoint_auth_method: 'none',
    application_type: 'native',
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    redirect_uris: [],
    response_types: [],
  }],
  features: {
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({
        scope: '', audience, accessTokenFormat: 'jwt', accessTokenTTL: life, jwt: { sign: { alg: 'RS256' } },
      }),
      useGrantedResource: () => true,
    },
  },
  rotateRefreshToken: true,
  issueRefreshToken: () => true,
  extraTokenClaims: (context, token) => people.get(token.accountId) ?? {},
  findAccount: (context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  ttl: { AccessToken: life, DeviceCode: 60, RefreshToken: 3600, Grant: 3600, Session: 3600, Interaction: 600 },
})

provider.on('refresh_token.consumed', () => { grants += 1 })

// Beside the provider's own routes: what a test has to arrange and to count.
provider.use(async (context, next) => {
  if (context.path === '/test/people') {
    const person = context.query
    people.set(person.sub, JSON.parse(person.claims))
    context.body = {}
  } else if (context.path === '/test/renewals') {
    context.body = { renewals: grants }
  } else {
    await next()
  }
})
provider.listen(port, '127.0.0.1', () => console.log(`listening on ${issuer}`))
