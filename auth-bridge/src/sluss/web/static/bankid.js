// The BankID page: a new code each second, and every two seconds how it goes.
const page = document.getElementById("bankid");
const { at, csrf } = page.dataset;
const byId = (id) => document.getElementById(id);
const CODE_EVERY = 1000;
const ASK_EVERY = 2000;

let here = ""; // whether the app was opened on this device
let over = false;
let number = 0;

function say(kind, text) {
  const status = byId("status");
  status.dataset.kind = kind;
  if (status.textContent !== text) status.textContent = text;
}

function nextCode() {
  if (over) return;
  if (byId("open").hidden) return setTimeout(nextCode, CODE_EVERY);
  const next = new Image();
  const shown = () => setTimeout(nextCode, CODE_EVERY);
  next.onload = () => {
    byId("qr").src = next.src;
    shown();
  };
  next.onerror = shown;
  next.src = `${at}/qr?${(number += 1)}`;
}

function end(message) {
  over = true;
  say("bad", message);
  byId("open").hidden = byId("cancel").hidden = true;
  byId("again").hidden = false;
}

async function ask() {
  try {
    const answer = await fetch(`${at}/collect${here}`, {
      method: "POST",
      headers: { Accept: "application/json", "X-CSRF-Token": csrf },
    });
    const told = await answer.json();
    if (told.state === "complete") return location.replace(told.onward);
    if (told.state !== "pending") return end(told.message);
    say("waiting", told.message);
    byId("open").hidden = told.started;
  } catch {
    // The next round tries again.
  }
  setTimeout(ask, ASK_EVERY);
}

byId("here").addEventListener("click", () => (here = "?here"));
setTimeout(nextCode, CODE_EVERY);
setTimeout(ask, ASK_EVERY);
