-- double, for tests: passes questions on to the account in `target_address`, and its answers back.
module:log("info", "double of client_proxy");

local st = require "util.stanza";
local new_id = require "util.id".medium;

local target = module:get_option_string("target_address");
local asked = {}; -- by whom, by the id that the target sees

module:hook("iq/host", function (event)
	local stanza = event.stanza;
	local id, type = stanza.attr.id, stanza.attr.type;
	local copy = st.clone(stanza);
	if type == "get" or type == "set" then
		local account = prosody.bare_sessions[target];
		local _, session = next(account and account.sessions or {});
		if not session then
			module:send(st.error_reply(stanza, "cancel", "service-unavailable"));
			return true;
		end
		copy.attr.id, copy.attr.from, copy.attr.to = new_id(), module.host, session.full_jid;
		asked[copy.attr.id] = { id = id, from = stanza.attr.from };
		session.send(copy);
	elseif asked[id] and stanza.attr.from:find(target, 1, true) == 1 then
		copy.attr.id, copy.attr.from, copy.attr.to = asked[id].id, module.host, asked[id].from;
		asked[id] = nil;
		module:send(copy);
	end
	return true;
end, 10);
