// An OpenID issuer on loopback: anybody may register a client and sign in under any name.
// Tokens are for any MCP server on loopback. The issuer's address goes to standard output.
// A line on standard input is a command: "rotate" signs with a new key from then on.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider, errors } from 'oidc-provider';

const RESOURCE = /^http:\/\/127\.0\.0\.1:\d+\/mcp$/;

function signingKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), alg: 'RS256', use: 'sig' };
}

function issuer(address) {
  return new Provider(address, {
    jwks: { keys: [signingKey()] },
    scopes: ['openid', 'offline_access', 'pictures'],
    pkce: { required: () => true },
    features: {
      devInteractions: { enabled: true },
      registration: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, indicator) => {
          if (!RESOURCE.test(indicator)) throw new errors.InvalidTarget();
          return {
            scope: 'pictures',
            audience: indicator,
            accessTokenFormat: 'jwt',
            accessTokenTTL: 600,
            jwt: { sign: { alg: 'RS256' } },
          };
        },
      },
    },
    findAccount: (_, accountId) => ({ accountId, claims: async () => ({ sub: accountId }) }),
    extraTokenClaims: (_, token) => ({ roles: token.accountId === 'boss' ? ['admins'] : [] }),
  });
}

let handle;
const server = createServer((request, response) => handle(request, response));
server.listen(0, '127.0.0.1', () => {
  const address = `http://127.0.0.1:${server.address().port}`;
  handle = issuer(address).callback();
  createInterface({ input: process.stdin }).on('line', (line) => {
    if (line === 'rotate') handle = issuer(address).callback();
    console.log(`did ${line}`);
  }).on('close', () => process.exit(0));
  console.log(address);
});
