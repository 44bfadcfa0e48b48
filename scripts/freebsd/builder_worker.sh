#!/bin/sh
# Makes a jail, runs one builder-worker in it, which does one build, and destroys the
# jail: the way in which robur's builder is used.
#
#	builder_worker.sh run NAME PLATFORM [FLAG]...
#	builder_worker.sh sweep NAME
#
# The jail is builder-worker-NAME of jail.conf; its root is a clone of a ZFS snapshot.
# Only one process runs for a NAME, and whatever an earlier one left is removed first.
# The worker's directory is the host's: what was not delivered is delivered the next
# time. Settings are in /usr/local/etc/builder-worker/throwaway.conf, which is read by
# sh(1); the defaults stand below.
set -eu

usage() {
	echo "usage: builder_worker.sh run NAME PLATFORM [FLAG]... | sweep NAME" >&2
	exit 2
}

[ $# -ge 2 ] || usage
action=$1
name=$2
shift 2
case $name in *[!A-Za-z0-9_]* | '') echo "builder_worker.sh: name $name: use letters, digits and _" >&2 && exit 2 ;; esac

etc=${BUILDER_WORKER_ETC:-/usr/local/etc/builder-worker}
snapshot=zroot/jails/base@clean    # what is cloned
parent=zroot/jails                 # where clones are made
jails=/jails                       # where they are mounted
jailconf=$etc/jail.conf
program=/usr/local/bin/builder-worker
db=/var/db/builder-worker
run=/var/run
# shellcheck disable=SC1091 # the administrator's
[ ! -f "$etc/throwaway.conf" ] || . "$etc/throwaway.conf"

jail=builder-worker-$name
dataset=$parent/$jail
root=$jails/$jail
lock=$run/$jail.lock

# One process for a name. What is below /var/run is gone after a boot.
locked() {
	if ! (set -C && echo $$ >"$lock") 2>/dev/null; then
		holder=$(cat "$lock")
		# Its number may be another process's by now.
		if [ -n "$holder" ] && ps -o args= -p "$holder" 2>/dev/null | grep -q builder_worker; then
			echo "builder_worker.sh: $jail is used by process $holder" >&2
			exit 75
		fi
		rm -f "$lock"
		(set -C && echo $$ >"$lock")
	fi
}

exists() { zfs list -H -o name "$dataset" >/dev/null 2>&1; }

# Removes whatever there is of the jail, in the reverse order of making.
sweep() {
	if jls name | grep -qxF "$jail"; then
		jail -f "$jailconf" -r "$jail" || jail -R "$jail"
	fi
	mount -p | awk -v root="$root/" 'index($2, root) == 1 { found[n++] = $2 } END { while (n-- > 0) print found[n] }' | while read -r path; do
		umount -f "$path"
	done
	tries=0
	while exists && ! zfs destroy -r -f "$dataset"; do
		tries=$((tries + 1))
		if [ $tries -ge 30 ]; then
			echo "builder_worker.sh: $dataset can not be destroyed" >&2
			return 1
		fi
		sleep 1
	done
	[ ! -d "$root" ] || rmdir "$root"
}

make() {
	mkdir -p "$root" "$db/$name"
	zfs clone -o mountpoint="$root" "$snapshot" "$dataset"
	mkdir -p "$root/usr/local/bin" "$root/var/db/builder-worker"
	cp "$program" "$root/usr/local/bin/builder-worker"
	[ ! -f /etc/resolv.conf ] || cp /etc/resolv.conf "$root/etc/resolv.conf"
	mount -t nullfs "$db/$name" "$root/var/db/builder-worker"
	jail -f "$jailconf" -c "$jail"
}

case $action in
sweep)
	[ $# -eq 0 ] || usage
	locked
	trap 'rm -f "$lock"' EXIT
	sweep
	;;
run)
	[ $# -ge 1 ] || usage
	platform=$1
	shift
	locked
	worker=
	stopped=
	# A signal is for the worker: the first lets it finish its build. The jail is
	# destroyed in any case.
	trap 'stopped=yes; [ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null || :' TERM INT
	trap 'code=$?; sweep || code=1; rm -f "$lock"; exit $code' EXIT
	sweep
	make
	[ -z "$stopped" ] || exit 0
	jexec "$jail" /usr/local/bin/builder-worker --name "$name" --dir /var/db/builder-worker "$@" "$platform" &
	worker=$!
	code=0
	wait "$worker" || code=$?
	while kill -0 "$worker" 2>/dev/null; do # a signal ends wait before the worker
		code=0
		wait "$worker" || code=$?
	done
	exit $code
	;;
*) usage ;;
esac
