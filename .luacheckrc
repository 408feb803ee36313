-- Prosody loads each module with `module` and `prosody` in its environment.
std = "lua54"
read_globals = { "module", "prosody" }
max_line_length = 130
