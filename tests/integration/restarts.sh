#!/usr/bin/env bash
# Runs the units of docs/systemd under a systemd of their own, as a user's, which takes no systemd as process 1: in namespaces for
# mounts and processes and a control group, so that all of it ends with this script. Says "started", then restarts the service so
# often, says "restarted", and waits until the file `stop` is there.
#
#   restarts.sh FOLDER RESTARTS    FOLDER has the units, in systemd/user/
set -euo pipefail
folder=$1 restarts=$2

# Its control group, in whichever hierarchy is systemd's here.
hierarchy=/sys/fs/cgroup
if [ -d /sys/fs/cgroup/systemd ]; then hierarchy=/sys/fs/cgroup/systemd; fi
group=$hierarchy/boxoffice-test-$(basename "$folder")
mkdir "$group"
echo 0 >"$group/cgroup.procs"

# Where systemd looks whether it may run.
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user/0
chmod 700 /run/user/0
export XDG_RUNTIME_DIR=/run/user/0 XDG_CONFIG_HOME=$folder
/lib/systemd/systemd --user --unit=basic.target --log-target=console >"$folder/systemd.log" 2>&1 &
for ((try = 0; ; try++)); do
    if systemctl --user is-active --quiet basic.target 2>/dev/null; then break; fi
    if ((try == 300)); then
        cat "$folder/systemd.log"
        exit 1
    fi
    sleep 0.1
done

systemctl --user start boxoffice.socket boxoffice-admin.socket boxoffice.service
systemctl --user show boxoffice.service --property=StatusText
echo started
for ((number = 0; number < restarts; number++)); do
    systemctl --user restart boxoffice.service
done
systemctl --user reload boxoffice.service
systemctl --user is-active boxoffice.service
echo restarted
until [ -e "$folder/stop" ]; do sleep 0.05; done
systemctl --user stop boxoffice.service boxoffice.socket boxoffice-admin.socket
systemctl --user exit
wait
# Nobody is left in it but this script.
echo 0 >"$hierarchy/cgroup.procs"
find "$group" -depth -type d -exec rmdir {} +
echo ended
