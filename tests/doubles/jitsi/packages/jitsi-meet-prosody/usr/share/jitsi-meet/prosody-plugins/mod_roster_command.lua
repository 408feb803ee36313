-- double, for tests: `prosodyctl mod_roster_command subscribe CONTACT USER`, and nothing else.
local jid_split = require "util.jid".split;
local rostermanager = require "core.rostermanager";
local storagemanager = require "core.storagemanager";
local usermanager = require "core.usermanager";

function module.command(arg)
	local contact, username, host = arg[2], jid_split(arg[3]);
	assert(arg[1] == "subscribe" and prosody.hosts[host], "this double subscribes users of hosts that there are");
	if prosody.hosts[host].users.name == "null" then
		storagemanager.initialize_host(host);
		usermanager.initialize_host(host);
	end
	rostermanager.set_contact_pending_in(username, host, contact);
	rostermanager.subscribed(username, host, contact);
	return 0;
end
