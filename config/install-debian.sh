#!/bin/sh
# Installs Chalk Flask from this clone on Debian or a system derived from it, as a service of systemd. To upgrade, update
# the clone and run the script again. Run it as root: config/install-debian.sh
#
# --prefix DIR   Install below DIR instead of /, without a user and without systemd, for example into an image.
# --wheels DIR   Install packages from files in DIR only, for a machine without a package index. On another machine,
#                `pip download -d DIR --require-hashes -r requirements.txt` and `pip download -d DIR setuptools` fill DIR.
# --no-start     Neither enable nor start nor restart the service.
#
# It creates the user chalk-flask, /opt/chalk-flask, /var/lib/chalk-flask, the units in /etc/systemd/system, the command
# /usr/local/bin/chalk-flask, its completion and its manual page. It does not change /etc/chalk-flask.env, the store, or
# drop-ins of units.
# A failed run leaves the former program in use.
set -eu
umask 022

name=chalk-flask
clone=$(cd "$(dirname "$0")/.." && pwd)
prefix='' wheels='' start=yes

say() { printf '%s\n' "$*" >&2; }
fail() { say "install-debian.sh: $1"; exit "${2:-1}"; }
is_real() { [ -z "$prefix" ]; }

parse_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --prefix | --wheels)
                [ -d "${2:-}" ] || fail "$1 must be followed by an existing folder, not '${2:-}'" 2
                if [ "$1" = --prefix ]; then prefix=$(cd "$2" && pwd); else wheels=$(cd "$2" && pwd); fi
                shift
                ;;
            --no-start) start=no ;;
            -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
            *) fail "unknown argument '$1': see --help" 2 ;;
        esac
        shift
    done
}

find_python() {
    python=${PYTHON:-python3}
    if is_real && ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        say "Installing python3-venv ..."
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3 python3-venv >/dev/null
    fi
    "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 ||
        fail "$python must be Python 3.11 or newer with the package venv: install it, or set PYTHON"
}

# The name of a program's folder is derived from its files, so a program that is installed already is used again.
program_id() {
    (
        cd "$clone"
        "$python" -V
        find backends chalk_flask README.md LICENSE pyproject.toml requirements.txt -type f ! -name '*.pyc' \
            -exec sha256sum {} + | LC_ALL=C sort -k 2
    ) | sha256sum | cut -c 1-12
}

# URLs of package indexes may contain a password, so they are removed from the output of pip.
pip() {
    if ! "$program/bin/python" -m pip --disable-pip-version-check --no-input install -q "$@" >"$work/pip.log" 2>&1; then
        sed "s#[a-z+]*://[^ ]*#<address>#g; s#host='[^']*'#host=<address>#g" "$work/pip.log" >&2
        fail "the packages could not be installed: see above. The former program is still in use"
    fi
}

install_program() {
    program=$prefix/opt/$name-$(program_id)
    if [ -e "$program/complete" ]; then
        say "The program is installed already: $program"
        return
    fi
    say "Installing the program into $program ..."
    [ -z "$wheels" ] || export PIP_NO_INDEX=1 PIP_FIND_LINKS="$wheels"
    rm -rf "$program"
    mkdir -p "$prefix/opt"
    "$python" -m venv "$program"
    pip --require-hashes -r "$clone/requirements.txt"
    # pip writes into the folder that it installs, so it gets a copy.
    mkdir "$work/source"
    for each in backends chalk_flask README.md LICENSE pyproject.toml app.py; do
        cp -R "$clone/$each" "$work/source"
    done
    pip --no-deps "$work/source"
    "$program/bin/$name" --version >/dev/null
    touch "$program/complete"
}

# A rename replaces the link, so there is no time without a program.
use_program() {
    link=$prefix/opt/$name
    if [ -e "$link" ] && [ ! -L "$link" ]; then
        say "Moving the program that was installed by hand to $link-former"
        mv -T "$link" "$link-former"
    fi
    ln -sfn "$name-${program##*-}" "$link.new"
    mv -fT "$link.new" "$link"
}

# A user of DynamicUser=yes, which former units had, ends with the service. Until then no other user can have its name.
create_user() {
    is_real || return 0
    if [ -d /run/systemd/system ] && [ "$(systemctl show --property=DynamicUser --value "$name.service")" = yes ]; then
        say "Stopping the service, to create its user ..."
        systemctl stop "$name.service"
    fi
    getent passwd "$name" >/dev/null || useradd --system --user-group --home-dir "/var/lib/$name" --no-create-home \
        --shell /usr/sbin/nologin "$name"
}

# A link is there if former units had DynamicUser=yes. systemd moves the folder back and changes its owner.
create_folders() {
    for folder in "$name" "$name-backups"; do
        [ -L "$prefix/var/lib/$folder" ] || install -d -m 0700 "$prefix/var/lib/$folder"
        if is_real && [ ! -L "/var/lib/$folder" ]; then chown "$name:$name" "/var/lib/$folder"; fi
    done
}

# Replace $2 by $1 with mode $3. A file that differs is kept as $2.former.
put_file() {
    mkdir -p "$(dirname "$2")"
    if [ -e "$2" ] && ! cmp -s "$1" "$2"; then
        mv "$2" "$2.former"
        say "Replaced $2; the former file is $2.former"
    fi
    install -m "$3" "$1" "$2"
}

install_files() {
    for unit in "$clone/config/$name"*.service "$clone/config/$name"*.timer "$clone/config/$name"*.path; do
        put_file "$unit" "$prefix/etc/systemd/system/${unit##*/}" 0644
    done
    put_file "$clone/config/$name-run" "$prefix/usr/local/bin/$name" 0755
    "$program/bin/$name" completion bash >"$work/completion"
    put_file "$work/completion" "$prefix/usr/local/share/bash-completion/completions/$name" 0644
    "$program/bin/$name" man-page >"$work/man-page"
    put_file "$work/man-page" "$prefix/usr/local/share/man/man1/$name.1" 0644
    if [ ! -e "$prefix/etc/$name.env" ]; then
        echo "# Settings of the service, one per line, for example CHALK_PUBLIC_URL=https://roster.example.org" >"$work/env"
        install -m 0600 "$work/env" "$prefix/etc/$name.env"
    fi
}

start_service() {
    if ! is_real || [ "$start" = no ]; then return; fi
    if [ ! -d /run/systemd/system ]; then
        say "systemd does not run here, so nothing was started."
        return
    fi
    systemctl daemon-reload
    systemctl enable -q "$name.service" "$name-backup.timer"
    systemctl restart "$name.service" "$name-backup.timer"
    say "The service is started. Its log: journalctl -u $name"
    say "Create the first administrator, if there is none: $name admin create NAME --operator"
}

parse_arguments "$@"
if is_real && [ "$(id -u)" != 0 ]; then fail "run this as root, or give --prefix"; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
find_python
install_program
create_user
create_folders
use_program
install_files
start_service
"$prefix/opt/$name/bin/$name" --version
