#!/bin/sh
# Stays up as long as it may read its configuration, and says which STUN servers it would have asked.
conf=${JAVA_SYS_PROPS#*-Dconfig.file=}
exec <"${conf%% *}" >>/var/log/jitsi/jvb.log 2>&1 || exit 2
echo "double of the videobridge reads ${conf%% *}: $(grep -o 'addresses *= *\[.*\]')"
exec python3 /usr/share/jitsi-videobridge/double.py "${conf%% *}"
