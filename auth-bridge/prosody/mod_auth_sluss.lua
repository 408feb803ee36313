-- Authentication provider of the meeting host. A ticket that the bridge accepts is the only way in:
-- SASL ANONYMOUS over websocket or BOSH, with `room` and `token` in the query of the request. No passwords, no accounts.

local formdecode = require "util.http".formdecode;
local new_id = require "util.id".long;

local bridge = module:require "sluss_bridge";

module:depends("sluss_firewall");

-- Questions about tickets, until the client signs in. Only here, so that nothing that prints a session can show a ticket; a
-- reload forgets them and the client asks for a new one.
local questions = setmetatable({}, { __mode = "k" });

-- Every session with a yes to its ticket, signed in or not: whose it is. The gate's orders are about these.
local people = setmetatable(module:shared "people", { __mode = "k" });

-- What Jitsi's own modules look for in a session: the claims of a ticket, as its verdict says them
local function set_jitsi_fields(session, room, attr)
	local user = { id = attr.username, name = attr.name, moderator = attr.role == "organiser" };
	local features = {};
	for name in (attr.features or ""):gmatch("%S+") do features[name] = true; end
	local claims = { room = room, sub = module.host, context = { user = user, features = features } };
	session.auth_token = "-"; -- they ask only whether there is one
	session._jitsi_auth_done = true;
	session.jitsi_meet_room = room;
	session.jitsi_meet_domain = module.host;
	session.jitsi_meet_context_user = user;
	session.jitsi_meet_context_features = features;
	session.jitsi_web_query_room = room;
	session.jitsi_web_query_prefix = "";
	prosody.events.fire_event("jitsi-authentication-token-verified", { session = session, claims = claims });
end

-- The ticket is spent here, whatever the answer, which comes while the client still opens its stream.
-- Returns the question, or the reason why there is none, as its `reason`.
local function spend(session, token, room)
	if (token or "") == "" or (room or "") == "" then return { reason = "no-ticket" }; end
	-- What cannot stand in XML would be an error here, and this session would never hear a no.
	if token:find("%G") or room:find("%G") then return { reason = "bad-ticket" }; end
	return bridge.begin("authenticate", {
		session = session.sluss.session;
		room = room;
		transport = session.sluss.transport;
		address = session.ip;
	}, token, function (yes)
		people[session] = { room = room, username = yes.username };
	end);
end

local function take_ticket(transport)
	return function (event)
		local session, url = event.session, event.request.url;
		local query = formdecode(url.query or "");
		url.query = nil;
		if type(query) ~= "table" then query = {}; end
		session.sluss = { session = new_id(), transport = transport };
		questions[session] = spend(session, query.token, query.room);
	end
end
module:hook_global("websocket-session", take_ticket("websocket"), 10);
module:hook_global("bosh-session", take_ticket("bosh"), 10);

-- Returns the username, or nil and the reason
local function redeem(session)
	local question = questions[session];
	questions[session] = nil;
	if not question or question.reason then return nil, question and question.reason or "no-ticket"; end
	local verdict, reason = bridge.answer(question);
	if not verdict then return nil, reason; end
	local attr = verdict.attr;
	if (attr.username or "") == "" or not attr.name or session.type ~= "c2s_unauthed" or session.destroyed then
		return nil, "unavailable";
	end
	session.sluss.room = question.attr.room;
	session.sluss.verdict = bridge.keep(verdict, question);
	set_jitsi_fields(session, session.sluss.room, attr);
	return attr.username;
end

local sasl = {};
sasl.__index = sasl;

local function new_sasl(session)
	return setmetatable({ session = session }, sasl);
end

function sasl:clean_clone()
	return new_sasl(self.session);
end

-- A plain client connection has no ticket and is offered nothing
function sasl:mechanisms()
	return self.session.sluss and { ANONYMOUS = true } or {};
end

function sasl:select(mechanism)
	if not self:mechanisms()[mechanism] then return false; end
	self.selected = mechanism;
	return true;
end

function sasl:process()
	local username, reason = redeem(self.session);
	if username then
		self.username = username;
		return "success";
	end
	return "failure", reason == "unavailable" and "temporary-auth-failure" or "not-authorized", reason;
end

local provider = { get_sasl_handler = new_sasl };

function provider.user_exists()
	return nil, "There are no accounts here";
end

module:provides("auth", provider);

module.unload = bridge.give_up;
