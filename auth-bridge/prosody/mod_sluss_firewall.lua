-- What a ticket lets a session say to whom: its own room, the plain services of its own host and, for that
-- room, Jitsi's. Nothing else: not other rooms or people, not the bridge, not the videobridges' room.
-- Also removes what a client says about who it is; the gate writes who it is.

local filters = require "util.filters";
local json = require "util.json";
local st = require "util.stanza";
local jid_split = require "util.jid".split;
local set = require "util.set";

local add_filter, remove_filter = filters.add_filter, filters.remove_filter;

local conference = "conference."..module.host;
local focus = "focus."..module.host;
local moderation = "avmoderation."..module.host; -- of microphones and cameras, by the organiser

local host_queries = set.new {
	"http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items",
	"urn:ietf:params:xml:ns:xmpp-session", "urn:xmpp:extdisco:1", "urn:xmpp:extdisco:2", "urn:xmpp:ping",
};
local room_queries = set.new { "http://jabber.org/protocol/disco#info", "urn:xmpp:ping" };

-- What Jitsi's client takes for somebody's name, picture, account, address or telephone number, or for another device of theirs
local identity_claims = set.new {
	"addresses", "avatar-id", "avatar-url", "bot", "call-control", "display-name", "email", "flip_device", "identity", "nick",
	"stats-id", "userId", "verified",
};
-- Features of Jitsi's own machines, which its client shows as telephones and recorders
local machines = set.new {
	"http://jitsi.org/protocol/jibri", "http://jitsi.org/protocol/jigasi", "http://jitsi.org/protocol/transcriber",
};
local xmlns_muc_user = "http://jabber.org/protocol/muc#user"; -- role and affiliation, which only the room says

local function is_reply(stanza)
	return stanza.attr.type == "result" or stanza.attr.type == "error";
end

local function is_without_chat(session)
	return not session.jitsi_meet_context_features["send-groupchat"];
end

-- What Jitsi's clients tell each other by themselves, such as the keys of end-to-end encryption
local function is_clients_own(stanza)
	for _, tag in ipairs(stanza.tags) do
		if tag.name ~= "json-message" and tag.name ~= "nick" then return false; end
	end
	return true;
end

local function asks_for(stanza, namespaces)
	local query = stanza.tags[1];
	return stanza.name == "iq" and (is_reply(stanza) or query and namespaces:contains(query.attr.xmlns));
end

local may_send = {}; -- to the room itself or an occupant

function may_send.presence(stanza)
	local type = stanza.attr.type;
	return type == nil or type == "unavailable" or type == "error";
end

function may_send.message(stanza, nick)
	return (stanza.attr.type == "groupchat") == (nick == nil); -- invitations and voice requests are neither
end

function may_send.iq(stanza, nick)
	return nick ~= nil or asks_for(stanza, room_queries); -- no settings, roles or registration
end

-- Whatever one client tells the others in JSON may name people: subtitles, polls. Encryption from end to end needs it to exchange
-- keys; of that a copy is made, so that no reader understands it otherwise than we do.
local function key_exchange(tag)
	local said = json.decode(tag:get_text());
	return said.type == "olm" and st.stanza(tag.name, { xmlns = tag.attr.xmlns })
		:text(json.encode { type = "olm", olm = said.olm }) or nil;
end

-- At any depth: Jitsi's client takes the first <x/> with a role in it, wherever in the stanza it is
local function without_claims(tag)
	if identity_claims:contains(tag.name) or tag.attr.xmlns == xmlns_muc_user or machines:contains(tag.attr.var) then
		return nil;
	elseif tag.name == "json-message" then
		local understood, copy = pcall(key_exchange, tag);
		return understood and copy or nil;
	end
	return tag:maptags(without_claims);
end

local function allowed(session, stanza)
	local room = session.sluss and session.sluss.room;
	if not room then return false; end
	local to, payload = stanza.attr.to, stanza.tags[1];
	if to == nil or to == module.host then
		return asks_for(stanza, host_queries) or to == nil and stanza.name == "presence" and may_send.presence(stanza);
	end
	local node, host, nick = jid_split(to);
	if host == conference and node == room then
		if stanza.name == "message" and is_without_chat(session) and not is_clients_own(stanza) then return false; end
		return may_send[stanza.name](stanza, nick);
	elseif node or not payload then
		return false;
	end
	local about = payload.attr.room;
	if host == focus then
		return stanza.name == "iq" and payload.name == "conference" and about == room.."@"..conference;
	end
	return host == moderation and stanza.name == "message" and (about == nil or about == room.."@"..conference);
end

-- A stream from the web to any other host, such as that of Jitsi's service accounts, ends before it is told how to sign in
-- there, and without being heard
local function hear(stanza, session)
	if session.host == module.host then return stanza; end
	session:close("host-unknown");
end

local function tell(stanza, session)
	if stanza.name ~= "stream:features" or session.host == module.host then return stanza; end
	module:add_timer(0, function () session:close("host-unknown"); end);
end

local function only_to_this_host(event)
	add_filter(event.session, "stanzas/in", hear);
	add_filter(event.session, "stanzas/out", tell);
end
module:hook_global("websocket-session", only_to_this_host);
module:hook_global("bosh-session", only_to_this_host);

-- A stream stays with its host; what goes to many people need not be looked at for each of them
module:hook("authentication-success", function (event)
	remove_filter(event.session, "stanzas/out", tell);
end);

module:hook("pre-stanza", function (event)
	local session, stanza = event.origin, event.stanza;
	if not allowed(session, stanza) then
		session.log("debug", "Not within its ticket: %s to %s", stanza.name, stanza.attr.to);
		if not is_reply(stanza) then
			session.send(st.error_reply(stanza, "auth", "forbidden", "Your ticket is for your meeting only"));
		end
		return true;
	end
	if stanza.name ~= "iq" then stanza:maptags(without_claims); end
end, 1000);
