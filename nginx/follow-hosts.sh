#!/usr/bin/env bash
# Makes the upstream block in a configuration of nginx that of the hosts that live, and has nginx reload if it was another.
#
#     BOXOFFICE_LEDGER=redis://10.0.0.9/0 nginx/follow-hosts.sh /etc/nginx/conf.d/boxoffice.conf
#
# Run it by a timer (nginx/follow-hosts.timer), every few seconds: nginx passes a dead host over by itself meanwhile. Words
# behind the file are passed on to nginx (`-p PREFIX -c FILE`). BOXOFFICE and NGINX name other programs than those on the PATH.
# Where the ledger does not answer, no host lives or nginx does not take the result, all stays as it was, and the exit status
# is 1.
set -euo pipefail

if [ $# -lt 1 ]; then
    echo "usage: BOXOFFICE_LEDGER=URL follow-hosts.sh CONFIGURATION [WORDS FOR NGINX]" >&2
    exit 2
fi
configuration=$1
shift
nginx=${NGINX:-nginx}

block=$("${BOXOFFICE:-boxoffice}" nginx --ledger "$BOXOFFICE_LEDGER")
if ! grep -q '^upstream boxoffice {$' "$configuration"; then
    echo "follow-hosts: $configuration has no block that begins with the line \"upstream boxoffice {\"" >&2
    exit 1
fi
# A file of its own that is made safely, by a name that nobody can guess and no `include *.conf` takes; beside the other, so
# that it takes its place in one step; gone at the end, however that comes.
new=$(mktemp "$configuration.XXXXXX")
trap 'rm -f "$new"' EXIT
BLOCK=$block awk '
    /^upstream boxoffice \{$/ { print ENVIRON["BLOCK"]; inside = 1 }
    !inside { print }
    /^\}$/ { inside = 0 }
' "$configuration" >"$new"
if cmp -s "$new" "$configuration"; then
    exit 0
fi
chmod --reference="$configuration" "$new"
cp -p "$configuration" "$configuration.before"
mv "$new" "$configuration"
if ! "$nginx" -t -q "$@"; then
    mv "$configuration.before" "$configuration"
    echo "follow-hosts: nginx does not take the hosts that live; $configuration is as it was" >&2
    exit 1
fi
"$nginx" -s reload "$@"
