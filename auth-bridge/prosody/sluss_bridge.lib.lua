-- Asking the bridge: one question, one explicit answer for this very session, in time. Anything else is no.
-- Part of mod_auth_sluss and mod_sluss_gate; the protocol is described in docs/gate-protocol.md.

local async = require "util.async";
local now = require "util.time".monotonic;
local st = require "util.stanza";

local hosts = prosody.hosts;

local xmlns = "urn:sluss:gate:1";

local bridges = module:get_option_array("sluss_bridges", {});
local timeout = module:get_option_number("sluss_timeout", 3); -- seconds, for all bridges together
local good_for = 1; -- seconds
local look_every = 0.1; -- seconds: a timer for each question costs more than this
local most_open = 1000;

-- The questions that wait for an answer, by the id of their stanza. Prosody's own send_iq does the same with two hooks,
-- a promise and a cache for each one, which costs more than all the rest of asking.
local open, count, asked = {}, 0, 0;

-- Its link, if that is up
local function link_to(bridge)
	local component = hosts[bridge] and hosts[bridge].modules.component;
	return component and component.connected and component.session;
end

--- The first bridge whose component link is up, or nil.
local function first()
	for _, bridge in ipairs(bridges) do
		if link_to(bridge) then return bridge; end
	end
end

--- Whether this JID is a bridge's.
local function is_bridge(jid)
	for _, bridge in ipairs(bridges) do
		if bridge == jid then return true; end
	end
	return false;
end

local function close(id, reply)
	local question = open[id];
	open[id], count = nil, count - 1;
	local verdict = reply and reply:get_child("verdict", xmlns);
	if verdict and verdict.attr.session == question.attr.session then
		question.verdict, question.yes = verdict, verdict.attr.allow == "true";
	end
	question.answered_at = now();
	if question.yes and question.heard_yes then question.heard_yes(verdict.attr); end
	if question.done then question.done(); end
end

module:hook("iq/host", function (event)
	local stanza = event.stanza;
	local type, question = stanza.attr.type, open[stanza.attr.id];
	if question and stanza.attr.from == question.to and (type == "result" or type == "error") then
		close(stanza.attr.id, type == "result" and stanza or nil);
		return true;
	end
end, 100);

-- No answer comes after the deadline, nor from a bridge whose link is lost. Who waited may ask the next one at once.
module:add_timer(look_every, function ()
	local hopeless = {};
	for id, question in pairs(open) do
		if now() > question.deadline or not link_to(question.to) then table.insert(hopeless, id); end
	end
	for _, id in ipairs(hopeless) do close(id); end
	return look_every;
end);

-- Send a question to the next bridge whose link is up; false if there is none, or no more time
local function send(question)
	question.answered_at, question.done = nil, nil;
	while question.tried < #bridges do
		question.tried = question.tried + 1;
		local to, token = bridges[question.tried], question.token;
		local link = link_to(to);
		if question.tried == #bridges then question.token = nil; end -- nobody is left to ask
		if link and now() < question.deadline and count < most_open then
			asked = asked + 1;
			local id = "q"..asked;
			local iq = st.iq({ type = "get", id = id, from = module.host, to = to }):tag(question.name, question.attr);
			if token then iq:text_tag("token", token); end
			question.to, open[id], count = to, question, count + 1;
			link.send(iq);
			return true;
		end
	end
	return false;
end

--- Begin to ask; what comes of it, `answer` says. `attr.session` must come back in the answer.
-- @param heard_yes called with the yes's attributes as soon as it comes
local function begin(name, attr, token, heard_yes)
	attr.xmlns = xmlns;
	local question = { name = name, attr = attr, token = token, heard_yes = heard_yes, deadline = now() + timeout, tried = 0 };
	question.waits = send(question);
	return question;
end

--- Wait for the answer without holding up other sessions.
-- @return the <verdict/> that says yes; or nil and the reason, one word
local function answer(question)
	while question.waits and async.ready() do
		if not question.answered_at then
			local wait, done = async.waiter();
			question.done = done;
			wait();
		end
		local verdict = question.verdict;
		if verdict then
			if question.yes then return verdict; end
			return nil, verdict.attr.reason or "unavailable";
		end
		module:log("warn", "No valid verdict on %s from %s", question.name, question.to);
		question.waits = send(question);
	end
	return nil, "unavailable";
end

--- Keep the yes to a question about a ticket: it is good for the room too, if the person enters at once.
local function keep(verdict, question)
	return verdict.attr.enter == "true" and { attr = verdict.attr, good_until = question.answered_at + good_for };
end

--- The yes that was kept for a session, once, if it is not older than an answer may be and the bridge is still there.
local function kept(session)
	local verdict = session.verdict;
	session.verdict = nil;
	return verdict and now() < verdict.good_until and first() and verdict or nil;
end

--- Let nobody wait for an answer that this module will not hear: for `module.unload`.
local function give_up()
	local waiting = {};
	for id, question in pairs(open) do
		question.deadline = 0;
		table.insert(waiting, id);
	end
	for _, id in ipairs(waiting) do close(id); end
end

return {
	begin = begin, answer = answer, give_up = give_up, keep = keep, kept = kept;
	first = first, is_bridge = is_bridge, timeout = timeout, xmlns = xmlns;
};
