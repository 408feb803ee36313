#!/bin/sh
# Stays up as long as it may read its configuration, as the user that the real one is.
case "$JAVA_SYS_PROPS" in *-Dconfig.file=*) ;; *) JAVA_SYS_PROPS="$JAVA_SYS_PROPS -Dconfig.file=/etc/jitsi/jicofo/jicofo.conf" ;; esac
conf=${JAVA_SYS_PROPS#*-Dconfig.file=}
exec <"${conf%% *}" >>/var/log/jitsi/jicofo.log 2>&1 || exit 2
echo "double of jicofo reads ${conf%% *}"
exec python3 /usr/share/jicofo/double.py "${conf%% *}"
