// OpenID provider for tests, by oidc-provider: node provider.mjs MODULE CLIENT ACCOUNTS
//
// MODULE is the path of the package, CLIENT a JSON object with id and secret, ACCOUNTS a JSON file with the claims of
// each account. Every password is accepted. The first line of the output is the issuer.
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import { pathToFileURL } from "node:url"

const [modulePath, clientText, accountsPath] = process.argv.slice(2)
const { default: Provider } = await import(pathToFileURL(modulePath).href)
const client = JSON.parse(clientText)
const server = createServer()
await new Promise(resolve => server.listen(0, "127.0.0.1", resolve))
const issuer = `http://127.0.0.1:${server.address().port}`

const provider = new Provider(issuer, {
  clients: [{
    client_id: client.id,
    client_secret: client.secret,
    redirect_uris: ["http://127.0.0.1/login/oidc/callback"],
  }],
  claims: { openid: ["sub", "groups"], email: ["email", "email_verified"], profile: [] },
  pkce: { required: () => true },
  // The file is read again at each sign-in, because tests change the groups of an account.
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, ...JSON.parse(readFileSync(accountsPath, "utf8"))[id] }),
  }),
  // Nobody is asked for consent.
  loadExistingGrant: async context => {
    const grant = new context.oidc.provider.Grant({
      clientId: context.oidc.client.clientId,
      accountId: context.oidc.session.accountId,
    })
    grant.addOIDCScope("openid email profile")
    await grant.save()
    return grant
  },
})
// The port of the service changes with each test.
provider.Client.prototype.redirectUriAllowed = uri =>
  /^http:\/\/127\.0\.0\.1:[0-9]+\/login\/oidc\/callback$/.test(uri)
server.on("request", provider.callback())
console.log(issuer)
