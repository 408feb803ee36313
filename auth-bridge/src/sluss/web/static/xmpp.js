// A small XMPP client for one room: RFC 7395 (websocket), RFC 6120 (SASL ANONYMOUS, bind), XEP-0045 (MUC), XEP-0199 (ping).
// It says nothing but "I am here"; who the others see is written by the gate.

const FRAMING = "urn:ietf:params:xml:ns:xmpp-framing";
const CLIENT = "jabber:client";
const SASL = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND = "urn:ietf:params:xml:ns:xmpp-bind";
const STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas";
const MUC = "http://jabber.org/protocol/muc";
const PING = "urn:xmpp:ping";
const GATE = "urn:sluss:gate:1";

const PING_EVERY = 10_000;
const ANSWER_WITHIN = 8_000;
const SELF = "110";
const KICKED = "307";

const escaped = (text) =>
  text.replace(/[&<>"']/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;" })[c]);
const childOf = (element, name) => [...element.children].find((child) => child.localName === name);
const random = (bytes) =>
  [...crypto.getRandomValues(new Uint8Array(bytes))].map((b) => b.toString(16).padStart(2, "0")).join("");

/**
 * Enter a room with a ticket.
 *
 * `on.change()` is called when somebody enters or leaves, first when we are inside ourselves;
 * `on.out(kind, reason)` once, when it is over: `refused` (reason: the gate's word), `put-out`, `ended`, `lost`, `left`.
 */
export class Room {
  #socket; #domain; #address; #nick; #on;
  #inside = false;
  #over = false;
  #pings;
  #silence;

  constructor({ url, token, room, domain, on }) {
    this.#domain = domain;
    this.#nick = random(4);
    this.#address = `${room}@conference.${domain}/${this.#nick}`;
    this.#on = on;
    this.#socket = new WebSocket(`${url}?${new URLSearchParams({ room, token })}`, "xmpp");
    this.#socket.onopen = () => this.#open();
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = () => this.#end("lost");
    this.#expectAnswer();
  }

  leave() {
    this.#send(`<presence xmlns="${CLIENT}" to="${escaped(this.#address)}" type="unavailable"/>`);
    this.#end("left");
  }

  #send(xml) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(xml);
  }

  #open() {
    this.#send(`<open xmlns="${FRAMING}" to="${escaped(this.#domain)}" version="1.0"/>`);
  }

  #end(kind, reason = "") {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#pings);
    clearTimeout(this.#silence);
    this.#send(`<close xmlns="${FRAMING}"/>`);
    this.#socket.close();
    this.#on.out(kind, reason);
  }

  #expectAnswer() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#end("lost"), ANSWER_WITHIN);
  }

  #receive(data) {
    clearTimeout(this.#silence); // anything at all is a sign of life
    const element = new DOMParser().parseFromString(data, "text/xml").documentElement;
    switch (element.localName) {
      case "features": return this.#negotiate(element);
      case "success": return this.#open();
      case "failure": return this.#end("refused", childOf(element, "text")?.textContent ?? "unavailable");
      case "iq": return this.#answer(element);
      case "presence": return this.#presence(element);
      case "error":
      case "close": return this.#end("lost");
    }
  }

  #negotiate(features) {
    this.#expectAnswer();
    if (childOf(features, "mechanisms")) this.#send(`<auth xmlns="${SASL}" mechanism="ANONYMOUS"/>`);
    else this.#send(`<iq xmlns="${CLIENT}" type="set" id="bind"><bind xmlns="${BIND}"/></iq>`);
  }

  #answer(iq) {
    const type = iq.getAttribute("type");
    const id = iq.getAttribute("id") ?? "";
    if (id === "bind" && type === "result") return this.#enter();
    if (id === "bind") return this.#end("refused", "unavailable");
    if (type !== "get" && type !== "set") return;
    const to = iq.hasAttribute("from") ? ` to="${escaped(iq.getAttribute("from"))}"` : "";
    const known = type === "get" && iq.getElementsByTagNameNS(PING, "ping").length > 0;
    this.#send(
      known
        ? `<iq xmlns="${CLIENT}" type="result" id="${escaped(id)}"${to}/>`
        : `<iq xmlns="${CLIENT}" type="error" id="${escaped(id)}"${to}><error type="cancel"><service-unavailable xmlns="${STANZAS}"/></error></iq>`,
    );
  }

  #enter() {
    this.#expectAnswer();
    this.#send(`<presence xmlns="${CLIENT}" to="${escaped(this.#address)}"><x xmlns="${MUC}"><history maxstanzas="0"/></x></presence>`);
    this.#pings = setInterval(() => {
      this.#expectAnswer();
      this.#send(`<iq xmlns="${CLIENT}" type="get" id="${random(4)}"><ping xmlns="${PING}"/></iq>`);
    }, PING_EVERY);
  }

  #presence(presence) {
    const from = presence.getAttribute("from") ?? "";
    const nick = from.slice(from.indexOf("/") + 1);
    const type = presence.getAttribute("type");
    const status = [...presence.getElementsByTagNameNS(`${MUC}#user`, "status")].map((s) => s.getAttribute("code"));
    const self = nick === this.#nick || status.includes(SELF);
    if (type === "error") {
      const reason = presence.getElementsByTagNameNS(GATE, "refused")[0]?.getAttribute("reason");
      return this.#end("refused", reason ?? "unavailable");
    }
    if (type === "unavailable" && self) {
      const ended = presence.getElementsByTagNameNS(`${MUC}#user`, "destroy").length > 0;
      return this.#end(ended ? "ended" : status.includes(KICKED) ? "put-out" : "lost");
    }
    this.#inside ||= self;
    if (this.#inside) this.#on.change();
  }
}
