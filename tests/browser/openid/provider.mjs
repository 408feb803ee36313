// A real OpenID provider (oidc-provider) with a sign-in page of its own, where a test says who signs in and with what.
// Its settings are JSON on standard input: issuer, address, port, key, certificate, client, people, levels.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:https";
import { readFileSync } from "node:fs";
import Provider from "oidc-provider";

const given = JSON.parse(readFileSync(0, "utf8"));
const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });

const provider = new Provider(given.issuer, {
  clients: [given.client],
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), use: "sig", alg: "ES256", kid: "of-the-test" }] },
  cookies: { keys: [randomBytes(32).toString("hex")] },
  pkce: { required: () => true, methods: ["S256"] },
  acrValues: given.levels,
  claims: { openid: ["sub", "acr", "amr"], email: ["email", "email_verified"], profile: ["name"], auth_time: null, sid: null },
  features: { devInteractions: { enabled: false }, backchannelLogout: { enabled: true } },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...given.people[id] }) }),
  interactions: { url: (_, interaction) => `/who/${interaction.uid}` },
  // Nobody is asked what the portal may know of them.
  async loadExistingGrant(ctx) {
    const grant = new provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope("openid email profile");
    await grant.save();
    return grant;
  },
});

const page = `<!doctype html><title>Sign in</title><form method="post">
<label>Account <input name="account"></label><label>Second factor <input name="amr"></label><button>Sign in</button></form>`;

const others = provider.callback();
createServer({ key: readFileSync(given.key), cert: readFileSync(given.certificate) }, async (request, response) => {
  if (!request.url.startsWith("/who/")) return others(request, response);
  if (request.method === "GET") return response.setHeader("Content-Type", "text/html").end(page);
  let body = "";
  for await (const part of request) body += part;
  const form = new URLSearchParams(body);
  const amr = ["pwd", ...form.get("amr").split(" ").filter(Boolean)];
  return provider.interactionFinished(request, response, { login: { accountId: form.get("account"), amr, remember: true } });
}).listen(given.port, given.address, () => console.log("ready"));
