-- What a bridge may order, part of mod_sluss_gate: put a person out, end a meeting, call the roll.

local destroy_session = require "core.sessionmanager".destroy_session;
local st = require "util.stanza";

local muc = module:depends "muc";
local bridge = module:require "sluss_bridge";
local attendance = module:require "sluss_attendance";

local meet_host = module:get_option_string("sluss_meet_host");
local xmlns = bridge.xmlns;

local people = module:shared("/"..meet_host.."/auth_sluss/people"); -- also who has not signed in yet

local function on_order(event_name, required, obey)
	module:hook(event_name, function (event)
		local origin, stanza = event.origin, event.stanza;
		local attr = stanza.tags[1].attr;
		if not bridge.is_bridge(stanza.attr.from) then
			origin.send(st.error_reply(stanza, "auth", "forbidden"));
			return true;
		end
		for _, name in ipairs(required) do
			if not attr[name] then
				origin.send(st.error_reply(stanza, "modify", "bad-request", "The attribute "..name.." is missing"));
				return true;
			end
		end
		local room = attr.room and muc.get_room_from_jid(attr.room.."@"..module.host);
		origin.send(obey(st.reply(stanza), attr, room));
		return true;
	end);
end

-- The sessions with a yes to a ticket for a room: one person's, or (without username) everybody's
local function sessions_for(room_name, username)
	local sessions = {};
	for session, person in pairs(people) do
		if not session.destroyed and person.room == room_name and (username == nil or person.username == username) then
			table.insert(sessions, session);
		end
	end
	return sessions;
end

-- One that cannot be closed as it should must not keep the others in
local function close_all(sessions, text)
	for _, session in ipairs(sessions) do
		local closed, problem = pcall(session.close, session, { condition = "policy-violation", text = text });
		if not closed then
			module:log("error", "A session could not be closed and is destroyed: %s", problem);
			local conn = session.conn;
			destroy_session(session, text);
			if conn then conn:close(); end
		end
	end
end

on_order("iq-set/host/"..xmlns..":expel", { "room", "username" }, function (reply, attr, room)
	local sessions = sessions_for(attr.room, attr.username);
	attendance.because("expelled", function ()
		for _, session in ipairs(sessions) do
			local nick = room and session.full_jid and room:get_occupant_jid(session.full_jid);
			if nick then room:set_role(true, nick, nil, attr.text); end
		end
	end, function ()
		close_all(sessions, attr.text);
	end);
	return reply:tag("expelled", { xmlns = xmlns, count = ("%d"):format(#sessions) });
end);

on_order("iq-set/host/"..xmlns..":end", { "room" }, function (reply, attr, room)
	attendance.because("ended", function ()
		if room then room:destroy(nil, attr.text); end
	end, function ()
		close_all(sessions_for(attr.room), attr.text);
	end);
	return reply;
end);

on_order("iq-get/host/"..xmlns..":roll", {}, attendance.call_roll);
