// A form with data-passkey asks its action what to sign or to make, has the browser do it, and sends the answer there.
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const named = (one) => ({ ...one, id: bytes(one.id) });

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.hidden = !window.PublicKeyCredential;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    use(form).catch((error) => {
      const known = error.name === "InvalidStateError"; // this device has one for the same person already
      say(form, known ? form.dataset.known : form.dataset.failed);
    });
  });
}

async function use(form) {
  say(form, "");
  const answer = await fetch(form.action, {
    method: "POST",
    headers: { Accept: "application/json", "X-CSRF-Token": form.elements.csrf.value },
  });
  const told = await answer.json();
  if (!answer.ok) return say(form, told.message);
  const made = told.create ? await create(told.create) : await get(told.get);
  form.elements.response.value = JSON.stringify(made);
  form.action = form.dataset.passkey;
  form.submit();
}

async function get(options) {
  const publicKey = { ...options, challenge: bytes(options.challenge) };
  const { rawId, response, type } = await navigator.credentials.get({ publicKey });
  return {
    id: text(rawId),
    rawId: text(rawId),
    type,
    response: {
      clientDataJSON: text(response.clientDataJSON),
      authenticatorData: text(response.authenticatorData),
      signature: text(response.signature),
    },
  };
}

async function create(options) {
  const publicKey = { ...options, challenge: bytes(options.challenge), user: named(options.user) };
  publicKey.excludeCredentials = (options.excludeCredentials ?? []).map(named);
  const { rawId, response, type } = await navigator.credentials.create({ publicKey });
  return {
    id: text(rawId),
    rawId: text(rawId),
    type,
    response: { clientDataJSON: text(response.clientDataJSON), attestationObject: text(response.attestationObject) },
  };
}

function say(form, what) {
  const alert = form.querySelector("[role=alert]");
  alert.textContent = what;
  alert.hidden = !what;
}
