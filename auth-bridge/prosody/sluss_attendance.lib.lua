-- Attendance, part of mod_sluss_gate: tells the bridge who entered and left, in order and until it acknowledges.
-- Who is inside is kept with each room, and what is not yet acknowledged in shared memory: a reload loses neither.

local new_id = require "util.id".long;
local now = require "util.time".monotonic;
local st = require "util.stanza";

local muc = module:depends "muc";
local bridge = module:require "sluss_bridge";

local xmlns = bridge.xmlns;
local gather_for, gather_longest, most_at_once = 0.1, 1, 100; -- seconds, seconds, events
local retry_after = 1; -- seconds

local outbox = module:shared "outbox"; -- a list of events, oldest first
outbox.epoch = outbox.epoch or new_id();
outbox.seq = outbox.seq or 0;

local busy, happened, somebody_left, reason = false, 0, false, nil;
local deliver;

-- While many come, those at the door go first: it is told when nothing has happened for a moment, or has for a second.
-- Unless somebody left, whose place may be wanted at the door.
local function deliver_after(seconds)
	if busy or not outbox[1] then return; end
	busy = true;
	local latest = now() + gather_longest;
	module:add_timer(seconds, function ()
		if not somebody_left and now() < math.min(happened + gather_for, latest) then return gather_for; end
		somebody_left = false;
		deliver(#outbox);
	end);
end

-- Send the `due` oldest events, group by group, each when the one before is acknowledged
function deliver(due)
	local to = bridge.first();
	local function later()
		busy = false;
		deliver_after(retry_after);
	end
	if not to then return later(); end
	local iq = st.iq({ type = "set", id = new_id(), from = module.host, to = to });
	iq:tag("events", { xmlns = xmlns, epoch = outbox.epoch });
	local count = math.min(due, most_at_once);
	for i = 1, count do iq:add_child(outbox[i]); end
	module:send_iq(iq, nil, bridge.timeout):next(function (answer)
		-- a link that breaks while we write to it answers with an error, but here
		if answer.stanza.attr.type ~= "result" then return later(); end
		table.move(outbox, count + 1, #outbox + count, 1);
		if due > count then return deliver(due - count); end
		busy = false;
		deliver_after(gather_for);
	end, later);
end

local function report(name, room, occupant, session, at)
	happened, somebody_left = now(), somebody_left or name == "left";
	outbox.seq = outbox.seq + 1;
	table.insert(outbox, st.stanza(name, {
		xmlns = xmlns, seq = ("%d"):format(outbox.seq), room = room.jid:match("^[^@]+"),
		session = session, occupant = occupant, at = ("%d"):format(at), reason = name == "left" and reason or nil;
	}));
	deliver_after(gather_for);
end

module:hook("muc-occupant-session-new", function (event)
	local room, occupant, session = event.room, event.jid, event.origin.sluss;
	if not (session and session.person) then return; end -- the focus does not attend
	session.entered = true;
	room._data.sluss_present = room._data.sluss_present or {};
	room._data.sluss_present[occupant] = { session = session.session, at = os.time() };
	report("entered", room, occupant, session.session, os.time());
end);

-- However an occupant's connection leaves, the room tells the others, after it has forgotten the connection
module:hook("muc-broadcast-presence", function (event)
	local room = event.room;
	local present = room._data.sluss_present or {};
	for occupant, entry in pairs(present) do
		if not room:get_occupant_jid(occupant) then
			present[occupant] = nil;
			report("left", room, occupant, entry.session, os.time());
		end
	end
end);

--- Put people out in these steps, and give this as the reason they left. A step that fails must not keep anybody in:
-- other modules' handlers run in them too.
local function because(why, ...)
	reason = why;
	for _, step in ipairs { ... } do
		local done, problem = pcall(step);
		if not done then module:log("error", "Putting people out goes on after an error: %s", problem); end
	end
	reason = nil;
end

--- Add <roll/> to a reply: everybody inside, and the last event given out before.
local function call_roll(reply)
	reply:tag("roll", { xmlns = xmlns, epoch = outbox.epoch, seq = ("%d"):format(outbox.seq) });
	for room in muc.all_rooms() do
		for occupant, entry in pairs(room._data.sluss_present or {}) do
			reply:tag("occupant", {
				room = room.jid:match("^[^@]+"), session = entry.session, occupant = occupant, at = ("%d"):format(entry.at);
			}):up();
		end
	end
	return reply;
end

deliver_after(0);

return { because = because, call_roll = call_roll };
