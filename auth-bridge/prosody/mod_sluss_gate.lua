-- The gate of the conference component: nobody creates or enters a room without the bridge's yes, everybody
-- inside bears the verified name, and the bridge hears who entered and left. See docs/gate-protocol.md.

local jid = require "util.jid";
local new_id = require "util.id".long;
local st = require "util.stanza";

local muc = module:depends "muc";
local bridge = module:require "sluss_bridge";

local meet_host = module:get_option_string("sluss_meet_host");
local focus = module:get_option_string("sluss_focus");

module:require "sluss_orders";

local xmlns, xmlns_nick = bridge.xmlns, "http://jabber.org/protocol/nick";

-- The verdict on a presence stanza that wants to enter: given before the room sees it, looked up by the room's events
local verdicts = setmetatable({}, { __mode = "k" });

local function kind_of(session)
	if session.type ~= "c2s" then return nil; end
	if session.username.."@"..session.host == focus then return "focus"; end
	return session.host == meet_host and session.sluss and session.sluss.room and "participant" or nil;
end

local function refuse(event, reason)
	local type, condition, text = "auth", "forbidden", "You may not enter this meeting";
	if reason == "unavailable" then
		type, condition, text = "wait", "service-unavailable", "The door service is not answering";
	end
	module:log("info", "Refused at the door of %s: %s", jid.bare(event.stanza.attr.to), reason);
	event.origin.send(st.error_reply(event.stanza, type, condition, text, module.host)
		:tag("refused", { xmlns = xmlns, reason = reason }));
	return true;
end

-- The verified name in every presence and message; what the client wrote of itself, mod_sluss_firewall has removed
local function stamp(event)
	local stanza, person = event.stanza, event.origin.sluss and event.origin.sluss.person;
	if not person then return; end
	stanza:text_tag("nick", person.name, { xmlns = xmlns_nick });
	stanza.attr["xml:lang"] = nil; -- nobody reads it, and everybody would be sent it
end

for _, event_name in ipairs { "presence/bare", "message/bare", "message/full" } do
	module:hook(event_name, stamp, 100);
end

-- All waiting is done here, before the room is looked up, so that nothing can change between the room's own
-- checks and the entry. The room's events below then only compare with the verdict.
module:hook("presence/full", function (event)
	local origin, stanza = event.origin, event.stanza;
	local name, host, nick = jid.split(stanza.attr.to);
	local room = muc.get_room_from_jid(jid.join(name, host));
	if stanza.attr.type ~= nil or room and room:get_occupant_jid(stanza.attr.from) then return stamp(event); end
	local kind = kind_of(origin);
	if not kind then return refuse(event, "not-known"); end
	if kind == "focus" then
		origin.sluss = origin.sluss or { session = new_id() };
	elseif name ~= origin.sluss.room or nick == "focus" then
		return refuse(event, "wrong-room"); -- Jitsi's clients obey whoever is called focus
	end
	local verdict, reason = bridge.kept(origin.sluss), nil;
	if not verdict then
		verdict, reason = bridge.answer(bridge.begin("admit", {
			session = origin.sluss.session, room = name, occupant = stanza.attr.from, kind = kind;
			stage = room and "join" or "create", again = origin.sluss.entered and "true" or nil;
		}));
	end
	if origin.destroyed then return true; end
	if not verdict then return refuse(event, reason); end
	local attr = verdict.attr;
	if kind == "participant" then
		if not attr.name then return refuse(event, "unavailable"); end
		origin.sluss.person = { name = attr.name };
	end
	verdicts[stanza] = { owner = kind == "focus" or attr.role == "organiser" };
	stamp(event);
end, 100);

module:hook("muc-room-pre-create", function (event)
	local room = event.room;
	if not verdicts[event.stanza] then return refuse(event, "not-open"); end
	module:add_timer(0, function () -- the room may still have turned its first occupant away, say for a bad nick
		if muc.get_room_from_jid(room.jid) == room and not room:has_occupant() then room:destroy(); end
	end);
end, 100);

-- The role follows from the affiliation when an occupant is made, which was before this event: set both.
module:hook("muc-occupant-pre-join", function (event)
	local room, occupant, verdict = event.room, event.occupant, verdicts[event.stanza];
	if not verdict then return refuse(event, "not-open"); end
	local affiliation = verdict.owner and "owner" or "none";
	if (room:get_affiliation(occupant.bare_jid) or "none") ~= affiliation then
		room:set_affiliation(true, occupant.bare_jid, affiliation);
	end
	occupant.role = room:get_default_role(affiliation);
end, 50);

-- A nick is for one stay; the name is the gate's
module:hook("muc-occupant-pre-change", function (event)
	if event.orig_occupant.nick == event.dest_occupant.nick then return; end
	event.origin.send(st.error_reply(event.stanza, "cancel", "not-acceptable", "Nicks do not change here", module.host));
	return true;
end, 50);

-- Nobody inside gives or takes a role; Jitsi's focus may still put somebody out
module:hook("muc-pre-set-affiliation", function (event)
	if event.actor then event.allowed = false; end
end, 50);

module:hook("muc-pre-set-role", function (event)
	if event.role then event.allowed, event.error, event.condition = false, "auth", "forbidden"; end
end, 50);

module.unload = bridge.give_up;
