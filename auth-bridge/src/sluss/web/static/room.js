// The room page: asks for a ticket, enters by Jitsi's frame or without video, and shows who is here.
import { Room } from "/static/xmpp.js";

const page = document.getElementById("room");
const { ticket: ticketUrl, here: hereUrl, outside: outsideUrl, verify, csrf, websocket } = page.dataset;
const jitsi = page.dataset.jitsi === "true";
const organiser = page.dataset.organiser === "true";
const texts = JSON.parse(page.dataset.texts);
const features = JSON.parse(page.dataset.features); // what the meeting's class allows
const lang = document.documentElement.lang;
const byId = (id) => document.getElementById(id);
const POLL_EVERY = 3000;
const TOLD_WITHIN = 300; // milliseconds: somebody who enters or leaves the room is known to the bridge a moment later

let room = null; // what `leave` is called on
let polling = 0;
let soon = null; // a poll because somebody came or went
let waits = false; // for the organiser
let present = new Map(); // key → person, as last shown

function say(kind, text) {
  const status = byId("status");
  status.dataset.kind = kind;
  status.textContent = text;
}

const clock = (seconds) =>
  new Date(seconds * 1000).toLocaleTimeString(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

async function ask(url, method = "GET") {
  const headers = { Accept: "application/json" };
  if (method === "POST") headers["X-CSRF-Token"] = csrf;
  const answer = await fetch(url, { method, headers });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.message), { ...body, status: answer.status });
  return body;
}

// Who is here

function line(person) {
  const item = document.createElement("li");
  const text = document.createElement("p");
  const name = document.createElement("strong");
  const how = document.createElement("small");
  const when = texts.since.replace("%s", clock(person.entered_at));
  item.className = "here";
  name.textContent = person.self ? `${person.name} (${texts.you})` : person.name;
  const devices = person.devices > 1 ? [texts.devices.replace("%s", person.devices)] : [];
  how.textContent = [texts[`role-${person.role}`], person.method, when, ...devices].join(" · ");
  text.append(name, how);
  item.append(text);
  if (organiser && person.invitation && person.role !== "organiser") item.append(putOutButton(person));
  return item;
}

function putOutButton(person) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "danger small";
  button.textContent = texts["put-out-button"];
  button.setAttribute("aria-label", `${texts["put-out-button"]}: ${person.name}`);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await ask(`/invitations/${encodeURIComponent(person.invitation)}/put-out`, "POST");
    } catch (error) {
      say("bad", error.message || texts.failed);
    }
    poll();
  });
  return button;
}

function showWaiting(people) {
  byId("waiting").hidden = people.length === 0;
  const lines = people.map((person) => `${person.name} · ${person.method}`);
  if (lines.join("\n") === [...byId("waiters").children].map((item) => item.textContent).join("\n")) return;
  byId("waiters").replaceChildren(
    ...lines.map((text) => Object.assign(document.createElement("li"), { className: "here", textContent: text })),
  );
}

function show(people) {
  const fresh = new Map(people.map((person) => [person.key, person]));
  const came = people.filter((person) => !present.has(person.key) && !person.self);
  const went = [...present.values()].filter((person) => !fresh.has(person.key));
  if (present.size > 0) {
    const news = [
      ...came.map((person) => texts.entered.replace("%s", person.name)),
      ...went.map((person) => texts.went.replace("%s", person.name)),
    ];
    if (news.length > 0) byId("event").textContent = `${clock(Date.now() / 1000)} ${news.join(", ")}`;
  }
  const same = people.length === present.size && people.every((p) => present.get(p.key)?.devices === p.devices);
  present = fresh;
  byId("count").textContent = `(${people.length})`;
  if (!same || byId("people").children.length === 0) byId("people").replaceChildren(...people.map(line));
}

async function poll() {
  clearTimeout(polling);
  clearTimeout(soon);
  soon = null;
  if (room === null) return;
  try {
    const { people, waiting } = await ask(hereUrl);
    if (organiser && room !== null) showWaiting(waiting);
    if (room !== null) show(people.map((person) => ({ ...person, key: person.invitation ?? person.role + person.name })));
  } catch {
    // The list stays as it was; the next round tries again.
  }
  clearTimeout(polling);
  polling = setTimeout(poll, POLL_EVERY);
}

// In and out

function inside() {
  say("inside", texts.inside);
  byId("leave").hidden = false;
}

function out(kind, reason = "") {
  if (room === null) return;
  room = null;
  clearTimeout(polling);
  say(kind === "left" ? "left" : "bad", texts[`refused-${reason}`] ?? texts[kind]);
  page.classList.add("over");
  byId("leave").hidden = true;
  const shut = kind === "put-out" || reason === "withdrawn";
  byId("back").hidden = shut && !organiser;
  byId("again").hidden = shut || kind === "ended";
}

function enterWithoutVideo(ticket) {
  let entered = false;
  room = new Room({
    ...ticket,
    url: websocket,
    on: {
      change: () => {
        if (!entered) inside();
        entered = true;
        soon ??= setTimeout(poll, TOLD_WITHIN); // who is here, the bridge says: it knows how each proved it
      },
      out,
    },
  });
}

// The buttons that the class leaves. Encryption is turned on in Jitsi's security dialog, where that is one's own choice.
function toolbar() {
  const has = {
    desktop: features.screen_sharing,
    chat: features.chat,
    recording: features.recording,
    security: features.end_to_end_encryption === "allowed",
  };
  return [
    "microphone", "camera", "desktop", "chat", "recording", "raisehand", "participants-pane", "tileview", "security",
    "select-background", "settings", "fullscreen", "hangup",
  ].filter((button) => has[button] ?? true);
}

function enterJitsi(ticket) {
  const api = new JitsiMeetExternalAPI(new URL(websocket).host, {
    roomName: ticket.room,
    parentNode: byId("stage"),
    width: "100%",
    height: "100%",
    lang,
    configOverwrite: {
      prejoinConfig: { enabled: false },
      disableDeepLinking: true,
      disableInviteFunctions: true,
      readOnlyName: true,
      localRecording: { disable: !features.recording, notifyAllParticipants: true },
      e2ee: { disabled: features.end_to_end_encryption === "forbidden" },
      toolbarButtons: toolbar(),
    },
  });
  // In the fragment, where no server sees it. The API's own `jwt` option would put it into the query.
  api.getIFrame().src += `&jwt=${encodeURIComponent(JSON.stringify(ticket.token))}`;
  const close = (kind, reason) => {
    if (room === null) return;
    out(kind, reason);
    api.dispose();
  };
  let entered = false;
  room = { leave: () => (api.executeCommand("hangup"), close("left")) };
  api.on("videoConferenceJoined", () => {
    entered = true;
    inside();
    if (features.end_to_end_encryption === "required") api.executeCommand("toggleE2EE", true);
  });
  api.on("videoConferenceLeft", () => whyOut(close, "left"));
  api.on("readyToClose", () => whyOut(close, "left"));
  // Shown here in plain words, instead of Jitsi's own question for a user name and password.
  api.on("errorOccurred", ({ error }) => {
    if (error?.isFatal || /^(connection|conference)\./.test(error?.name ?? "")) whyOut(close, entered ? "lost" : "refused");
  });
  api.on("passwordRequired", () => whyOut(close, entered ? "lost" : "refused"));
  poll();
}

// Jitsi says only that we are out. The bridge knows why; whoever was put out it no longer knows.
async function whyOut(close, kind) {
  try {
    const { reason } = await ask(outsideUrl);
    if (reason === "not-open") close("ended");
    else close(kind, kind === "refused" ? reason : "");
  } catch (error) {
    if (error.status === 401) return location.replace(verify);
    if (error.status === 403) close("put-out");
    else close(kind === "left" ? "lost" : kind, kind === "refused" ? "unavailable" : "");
  }
}

async function enter() {
  if (!waits) say("connecting", texts.connecting);
  try {
    const ticket = await ask(ticketUrl, "POST");
    if (waits) showWaiting([]);
    waits = false;
    (jitsi ? enterJitsi : enterWithoutVideo)(ticket);
  } catch (error) {
    if (error.status === 401 || error.status === 403) return location.replace(verify);
    if (error.error === "Waiting") {
      waits = true;
      say("waiting", error.message);
      showWaiting(error.waiting);
    }
    if (error.error === "Waiting" || (waits && error.status === undefined)) return setTimeout(enter, POLL_EVERY);
    say("bad", error.message || texts.lost);
    page.classList.add("over");
    byId("back").hidden = byId("again").hidden = false;
  }
}

byId("leave").addEventListener("click", () => room?.leave());
byId("again").addEventListener("click", () => location.reload());
addEventListener("pagehide", () => room?.leave());
enter();
