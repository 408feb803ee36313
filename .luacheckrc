-- Prosody loads each module with `module` and `prosody` in its environment.
std = "lua54"
read_globals = { "prosody", module = { other_fields = true, fields = { unload = { read_only = false } } } }
max_line_length = 130
