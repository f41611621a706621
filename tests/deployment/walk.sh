#!/bin/bash
# Follow docs/how-to/deploy-on-debian.md to the letter in a bare Debian 12 with systemd, then a night with a held package.
# Then follow docs/how-to/upgrade.md from an earlier version to this one, back, and to this one again.
#
#   tests/deployment/walk.sh FOLDER
#
# It takes some minutes, and needs root, debootstrap, Internet access, .venv of the clone with its history, and the free
# ports 25, 80, 443, 587 and 8080. FOLDER must be new and not on tmpfs. It holds the machine and its logs; delete it
# afterwards.
# systemd runs as the first process of new namespaces, with the network of this machine.
set -euo pipefail

clone=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:?the folder for the machine is missing}
root=$folder/root
earlier=42790260 # the last commit without config/install-debian.sh
group=/sys/fs/cgroup
[ ! -d "$group/unified" ] || group=$group/unified
group=$group/chalk-flask-walk

orgs=/ims/oneroster/v1p1/orgs

say() { printf '== %s\n' "$*"; }

# Wait until the output of a command has a line with the text, for at most two minutes.
expect() {
    for _ in $(seq 120); do
        ! eval "$2" 2>/dev/null | grep -q -- "$1" || { say "found: $1"; return 0; }
        sleep 1
    done
    say "missing: $1"
    return 1
}

create_machine() {
    mkdir -p "$folder/ca"
    debootstrap --variant=minbase bookworm "$root" http://deb.debian.org/debian >"$folder/debootstrap.log"
    cp /etc/resolv.conf "$root/etc"
    echo '127.0.0.1 localhost roster.example.org smtp.example.org' >"$root/etc/hosts"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    chroot "$root" sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends systemd systemd-sysv dbus libnss-systemd ca-certificates' >"$folder/apt.log" 2>&1
    rm "$root/usr/sbin/policy-rc.d"
    git -C "$clone" archive --prefix=clone/ HEAD | tar -x -C "$root/root"
    git -C "$clone" archive --prefix=earlier/ "$earlier" | tar -x -C "$root/root"
    # A machine that reaches package indexes through a proxy has certificates of its own.
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$root/etc/pip.conf"
}

create_certificates() {
    cd "$folder/ca"
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj '/CN=District CA' \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
    for name in roster smtp; do
        openssl req -newkey rsa:2048 -nodes -keyout $name.key -out $name.csr -subj "/CN=$name.example.org" 2>/dev/null
        echo "subjectAltName=DNS:$name.example.org" >$name.ext
        openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $name.ext \
            -out $name.pem 2>/dev/null
    done
    cp ca.pem "$root/usr/local/share/ca-certificates/district.crt"
    install -m 0644 roster.pem "$root/etc/ssl"
    install -m 0600 roster.key "$root/etc/ssl"
    cd "$clone"
}

create_packages() {
    "$clone/.venv/bin/python" - "$clone/chalk_flask/demo" "$root/root/clone" <<'END'
import sys, zipfile
from pathlib import Path
source, target = map(Path, sys.argv[1:])
for name, rows in (("district.zip", None), ("held.zip", 60)):
    with zipfile.ZipFile(target / name, "w", zipfile.ZIP_DEFLATED) as package:
        for file in sorted(source.glob("*.csv")):
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            package.writestr(file.name, "".join(lines[:rows] if file.stem == "enrollments" else lines))
END
}

boot() {
    mkdir -p "$group"
    cat >"$folder/boot" <<END
#!/bin/bash
set -e
mount --make-rprivate / && mount --bind "$root" "$root" && cd "$root"
mount -t proc proc proc && mount --bind proc/sys proc/sys && mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys && mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev && mkdir dev/pts dev/shm
for name in null zero full random urandom tty; do touch dev/\$name && mount --bind /dev/\$name dev/\$name; done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts && ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run && mount -t tmpfs tmpfs tmp && mount -t tmpfs tmpfs dev/shm
mkdir -p .old && pivot_root . .old && umount -l /.old
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=console
END
    chmod +x "$folder/boot"
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        exec setsid unshare --pid --fork --mount --uts --ipc --cgroup --kill-child "$folder/boot"
    ) >"$folder/console.log" 2>&1 </dev/null &
    launcher=$!
    for _ in $(seq 100); do
        machine=$(cat "/proc/$launcher/task/$launcher/children" 2>/dev/null || true)
        machine=${machine% }
        [ -z "$machine" ] || [ "$(cat "/proc/$machine/comm")" != systemd ] || break
        sleep 0.1
    done
    expect 'running\|degraded' "run_in 'systemctl is-system-running'"
    run_in update-ca-certificates >/dev/null 2>&1
}

run_in() {
    nsenter -t "$machine" -p -m -u -i -C env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive bash -euo pipefail -c "cd /root/clone; $1"
}

start_mail_server() {
    PYTHONPATH=$clone "$clone/.venv/bin/python" - "$folder" <<'END' &
import ssl, sys, time
from pathlib import Path
from tests.support.mail.mail_server import run_mail_server
folder = Path(sys.argv[1])
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(folder / "ca/smtp.pem", folder / "ca/smtp.key")
with run_mail_server(starttls=context, auth=True, port=587) as mail:
    while True:
        (folder / "mails.txt").write_text("".join(f"{to}: {subject}\n" for to, subject in mail.received()))
        time.sleep(1)
END
    mail_server=$!
}

# Run the shell blocks of the guide. Only the account of the mail server and the editor are replaced.
# shellcheck disable=SC2016
follow_guide() {
    sed -n '/^```sh$/,/^```$/{/^```/!p}' "$clone/docs/how-to/deploy-on-debian.md" |
        sed 's#^nano \(.*\)#echo correct-horse > \1#; s#^CHALK_SMTP_USER=.*#CHALK_SMTP_USER=roster-service#' \
            >"$root/root/guide.sh"
    run_in 'bash -ex /root/guide.sh' >"$folder/guide.log" 2>&1 || { tail -n 20 "$folder/guide.log"; return 1; }
}

have_a_held_night() {
    run_in 'install -m 0640 -o sis-upload -g sis held.zip /srv/sis/incoming/.part
        mv /srv/sis/incoming/.part /srv/sis/incoming/held.zip'
    expect 'import held for approval' "cat '$folder/mails.txt'"
    expect 'held.zip.txt' "run_in 'ls /srv/sis/incoming/held'"
    run_in "chalk-flask imports approve \$(chalk-flask imports list | grep ' held ' | cut -d ' ' -f 1)" >/dev/null
    expect 'committed .* held.zip' "run_in 'chalk-flask imports list'"
}

# shellcheck disable=SC2016
restore_the_backup() {
    run_in 'systemctl stop chalk-flask-import.path chalk-flask-import.timer chalk-flask
        chalk-flask restore "$(ls /var/lib/chalk-flask-backups/*.tar.gz | tail -n 1)" --replace
        systemctl start chalk-flask-import.path chalk-flask-import.timer chalk-flask
        chalk-flask check' | tail -n 1
    expect '"status":"ready"' "run_in 'curl -s https://roster.example.org/readyz'"
}

# Print the shell blocks of a section of docs/how-to/upgrade.md.
section() {
    sed -n "/^## $1\$/,/^## /{/^ *\`\`\`sh\$/,/^ *\`\`\`\$/{/\`\`\`/!p}}" "$clone/docs/how-to/upgrade.md"
}

# Run shell commands on the machine, with the paths of an installation by hand.
follow() {
    sed 's#chalk-flask-4285e219bd5a#chalk-flask-former#' >"$root/root/upgrade.sh"
    run_in 'bash -ex /root/upgrade.sh' >>"$folder/upgrade.log" 2>&1 || { tail -n 20 "$folder/upgrade.log"; return 1; }
}

# Install the earlier version as the comments of its unit say, on a machine without this one.
# shellcheck disable=SC2016
install_earlier_version() {
    follow <<'END'
systemctl disable --now chalk-flask chalk-flask-backup.timer chalk-flask-import.path chalk-flask-import.timer
systemctl stop chalk-flask-import chalk-flask-backup
rm -r /opt/chalk-flask* /var/lib/chalk-flask* /etc/systemd/system/chalk-flask* /usr/local/bin/chalk-flask /etc/chalk-flask.env
systemctl daemon-reload
userdel chalk-flask
python3 -m venv /opt/chalk-flask && /opt/chalk-flask/bin/pip install -q /root/earlier
cp /root/earlier/config/chalk-flask.service /etc/systemd/system
systemctl enable --now chalk-flask
END
    expect '"imsx_' "run_in 'curl -s http://127.0.0.1:8080$orgs'"
    install -m 0644 "$root/root/clone/district.zip" "$root/srv"
    run_earlier 'import /srv/district.zip' >>"$folder/upgrade.log" 2>&1
    token=$(run_earlier 'token create --label app' | head -n 1)
    check_token
}

run_earlier() {
    run_in "systemd-run --quiet --pipe --wait --property=DynamicUser=yes --property=User=chalk-flask \
        --property=StateDirectory=chalk-flask --setenv=CHALK_STORAGE=sqlite:////var/lib/chalk-flask/chalk.db \
        --setenv=CHALK_DATA=/var/lib/chalk-flask/data /opt/chalk-flask/bin/chalk-flask $1"
}

# The app of the earlier version still reads the roster.
check_token() {
    expect '"sourcedId"' "run_in 'curl -s -H \"Authorization: Bearer $token\" http://127.0.0.1:8080$orgs'"
}

upgrade() {
    { echo 'cp -a /etc/systemd/system/chalk-flask* /root/'; section 'Back up' | tail -n 2
        section 'Upgrade with the Debian script'; } | follow
    expect '"status":"ready"' "run_in 'curl -s http://127.0.0.1:8080/readyz'"
    check_token
}

roll_back() {
    { section 'Roll back' | sed '/restore/d'; echo 'systemctl start chalk-flask'; } | follow
    expect ' 0\.1\.0' "run_in '/opt/chalk-flask/bin/chalk-flask --version'"
    check_token
}

upgrade_again() {
    section 'Upgrade with the Debian script' | sed 's/^chalk-flask check$/& --repair/' | follow
    check_token
    run_in 'chalk-flask check' | tail -n 1
}

finish() {
    [ -z "${mail_server:-}" ] || kill "$mail_server"
    # The first process of the machine ignores SIGTERM. With it, all others end.
    [ -z "${launcher:-}" ] || kill -KILL "$launcher" 2>/dev/null || true
    wait 2>/dev/null || true
    sleep 1
    rmdir "$group" 2>/dev/null || true
}

[ ! -e "$folder" ] || { say "$folder exists already"; exit 2; }
trap finish EXIT
for step in create_machine create_certificates create_packages boot start_mail_server follow_guide have_a_held_night \
    restore_the_backup install_earlier_version upgrade roll_back upgrade_again; do
    say "$step"
    $step
done
say 'The guides work.'
