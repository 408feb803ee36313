-- double, for tests: the host says in its service discovery which components there are.
module:log("info", "double of features_identity");

module:hook("jitsi-add-identity", function (event)
	module:add_identity("component", event.name, event.host);
end);
