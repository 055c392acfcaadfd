#!/usr/bin/env bash
# Installs what the tests start and talk to, where it is missing: `tests/setup.sh`; for the peers of the bench
# `tests/setup.sh bench`, for flame graphs `tests/setup.sh flamegraph`. Debian's packages, and schemathesis, ruff,
# playwright and axe from PyPI into target/; asks nothing; starts no service.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian keeps servers in sbin, which is not on everybody's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# command=package
needed=(
    redis-server=redis-server
    logrotate=logrotate
    nginx=nginx
    ab=apache2-utils
    wrk=wrk
    curl=curl
    sqlite3=sqlite3
    cc=gcc
    python3=python3
    valgrind=valgrind
    shellcheck=shellcheck
    chromium=chromium
    promtool=prometheus
    tmux=tmux
    systemd-analyze=systemd
)
# Files stand for the packages that bring no command: the headers without which cc compiles and links nothing (gcc only
# recommends them); nginx's modules and its Redis client.
needed_files=(
    /usr/include/stdio.h=libc6-dev
    /usr/share/nginx/modules-available/mod-stream.conf=libnginx-mod-stream
)
case "${1-}" in
    "") ;;
    bench)
        needed+=(go=golang-go)
        needed_files=(
            /usr/share/nginx/modules-available/mod-http-ndk.conf=libnginx-mod-http-ndk
            /usr/share/nginx/modules-available/mod-http-lua.conf=libnginx-mod-http-lua
            /usr/share/lua/5.1/resty/core.lua=lua-resty-core
            /usr/share/lua/5.1/resty/lrucache.lua=lua-resty-lrucache
            /usr/share/lua/5.1/nginx/redis.lua=lua-nginx-redis
        )
        ;;
    flamegraph) needed+=(perf=linux-perf) ;;
    *)
        echo "tests/setup.sh: takes nothing or the word bench or flamegraph, not '$1'" >&2
        exit 2
        ;;
esac

missing=()
for entry in "${needed[@]}"; do
    command -v "${entry%%=*}" >/dev/null || missing+=("${entry#*=}")
done
for entry in "${needed_files[@]}"; do
    [[ -e "${entry%%=*}" ]] || missing+=("${entry#*=}")
done
# What comes from PyPI is for the tests alone. Debian's python3 comes without what makes its virtual environment.
if [[ -z "${1-}" ]] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then missing+=(python3-venv); fi

# Runs a command up to so many times, with a pause in between, until it succeeds.
retry() {
    local tries=$1 try
    shift
    for ((try = 1; ; try++)); do
        if "$@"; then return 0; fi
        if ((try == tries)); then return 1; fi
        echo "setup: that failed; once more in $((5 * try)) s" >&2
        sleep $((5 * try))
    done
}

install_missing() {
    "${apt_get[@]}" update </dev/null && "${apt_get[@]}" install --no-install-recommends "${missing[@]}" </dev/null
}

install_packages() {
    echo "setup: installing ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "setup: no apt-get here; install by hand what provides: ${missing[*]} (Debian's package names)" >&2
        exit 1
    fi
    as_root=()
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            echo "setup: not root and no sudo; run as root: apt-get install ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
        # A CI has nobody to type a password: fail with a message instead of waiting for one.
        if [[ "${CI-}" == true || ! -t 0 ]]; then as_root+=(-n); fi
    fi

    # Debian starts a server when it installs one. The tests bring their own, so a policy says no for as long as
    # this takes, unless the machine has a policy already.
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e "$policy" ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        trap '"${as_root[@]}" rm -f "$policy"' EXIT
    fi
    apt_get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o Dpkg::Use-Pty=0
        -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300)
    # Mirrors fail for a moment, and a machine that has just started may be updating itself.
    retry 5 install_missing

    for entry in "${needed[@]}"; do
        if ! command -v "${entry%%=*}" >/dev/null; then
            echo "setup: ${entry#*=} is installed but ${entry%%=*} is still not to be found" >&2
            exit 1
        fi
    done
    for entry in "${needed_files[@]}"; do
        if [[ ! -e "${entry%%=*}" ]]; then
            echo "setup: ${entry#*=} is installed but there is still no ${entry%%=*}" >&2
            exit 1
        fi
    done
}
if ((${#missing[@]} > 0)); then install_packages; fi

# Packages from PyPI in a virtual environment of their own, made anew where their versions changed.
python_environment() {
    local venv=target/$1 versions=$2 what=$3
    if cmp -s "$versions" "$venv/installed.txt"; then return 0; fi
    echo "setup: installing $what into $venv"
    if ! python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "setup: $(command -v python3) cannot do it: it takes Python 3.11 or newer with venv and ensurepip" \
            "(Debian: python3 and python3-venv)" >&2
        exit 1
    fi
    rm -rf "$venv"
    python3 -m venv "$venv"
    if ! retry 3 "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input -r "$versions" </dev/null; then
        echo "setup: pip could not install $versions from PyPI; see above" >&2
        exit 1
    fi
    cp "$versions" "$venv/installed.txt"
}
# schemathesis drives the server from its OpenAPI description; ruff lints Python; playwright drives Chromium.
if [[ -z "${1-}" ]]; then
    python_environment schemathesis tests/openapi/requirements.txt "schemathesis and ruff"
    python_environment browser tests/browser/requirements.txt "playwright and axe"
fi
