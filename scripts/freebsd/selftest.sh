#!/bin/sh
# Tries on a real FreeBSD, as root, everything that the kind of isolation "jail" and the
# scripts beside this one take for granted; docs/isolation.md lists the same, by number,
# with the manual pages. What it makes is called builder-selftest, and removed.
#
#	selftest.sh DATASET@SNAPSHOT [USER]
#
# Exit status: 0 if all holds, 1 if not; rctl(8) and vnet(9) may be missing, which is
# told: then builder-worker refuses what needs them.
# shellcheck disable=SC2015,SC2016,SC2317 # scripts in quotes are run by sh_holds, clean by trap
set -u

[ $# -ge 1 ] || { echo "usage: selftest.sh DATASET@SNAPSHOT [USER]" >&2; exit 2; }
[ "$(uname)" = FreeBSD ] && [ "$(id -u)" = 0 ] || { echo "selftest.sh: needs FreeBSD, and root" >&2; exit 2; }
snapshot=$1
user=${2:-nobody}
name=builder-selftest
dataset=${snapshot%@*}
dataset=${dataset%/*}/$name
dir=$(mktemp -d /tmp/$name.XXXXXX)
root=$dir/root
bad=0

clean() {
	jls name | grep -qx "$name" && jail -R "$name"
	rctl -r "jail:$name" >/dev/null 2>&1
	ifconfig -l | grep -qw epair32000a && ifconfig epair32000a destroy
	ifconfig lo0 | grep -qw 127.0.77.77 && ifconfig lo0 inet 127.0.77.77 -alias
	umount -f "$root/dev" 2>/dev/null
	zfs list "$dataset" >/dev/null 2>&1 && zfs destroy -r -f "$dataset"
	chflags -R 0 "$dir" 2>/dev/null
	rm -rf "$dir"
}
trap clean EXIT
trap 'exit 1' INT TERM

# holds NUMBER WHAT COMMAND...
holds() {
	number=$1
	what=$2
	shift 2
	if "$@" >"$dir/told" 2>&1; then
		echo "ok $number $what"
	else
		echo "NOT OK $number $what"
		sed 's/^/	/' "$dir/told"
		bad=1
	fi
}

# sh_holds NUMBER WHAT SCRIPT
sh_holds() { holds "$1" "$2" sh -euc "$3"; }

conf() {
	cat >"$dir/jail.conf" <<END
"$name" {
	path = "$root";
	host.hostname = "builder";
	persist;
	exec.clean;
	mount.devfs;
	devfs_ruleset = 4;
	enforce_statfs = 2;
	children.max = 0;
	securelevel = 3;
	sysvmsg = new;
	sysvsem = new;
	sysvshm = new;
	$1
}
END
}

inside() { jexec -U "$user" "$name" /bin/sh -c "$1"; }
export name dataset snapshot dir root user

sh_holds 37 "sysctl says which system this is" '[ "$(sysctl -n kern.ostype)" = FreeBSD ]'
mkdir "$root"
sh_holds 1 "a snapshot has a guid" 'zfs get -H -p -o value guid "$snapshot" | grep -qE "^[0-9]+$"'
sh_holds 2 "a clone can be made with canmount=noauto" 'zfs clone -o canmount=noauto -o mountpoint="$root" "$snapshot" "$dataset"'
sh_holds 3 "mounted says yes or no, and zfs mount mounts" \
	'[ "$(zfs get -H -p -o value mounted "$dataset")" = yes ] || zfs mount "$dataset"; [ "$(zfs get -H -p -o value mounted "$dataset")" = yes ]'
sh_holds 4 "children are listed by name" 'zfs list -H -o name -t filesystem -r -d 1 "${dataset%/*}" | grep -qx "$dataset"'
holds 5 "devfs rule set 4 is loaded" sh -c '[ -n "$(devfs rule -s 4 show)" ]'

conf "ip4 = inherit; ip6 = inherit;"
holds 6 "the configuration is accepted" jail -f "$dir/jail.conf" -c "$name"
sh_holds 7 "jls prints names" 'jls name | grep -qx "$name"'
sh_holds 8 "mount -p lists what jail(8) mounted, by path" 'mount -p | awk "{ print \$2 }" | grep -qx "$(realpath "$root")/dev"'
holds 9 "jexec -U: ids of the jail's user" inside '[ "$(id -un)" = "'"$user"'" ] && [ "$(id -u)" != 0 ]'
sh_holds 10 "the environment is what env says" \
	'[ "$(jexec -U "$user" "$name" /bin/sh -c "exec env -i -- \"\$@\"" sh X=kept PATH=/bin /bin/sh -c "echo \$X \$PATH")" = "kept /bin" ]'
sh_holds 11 "env says 127 for what is not there" \
	'code=0; jexec -U "$user" "$name" /bin/sh -c "exec env -i -- \"\$@\"" sh X=1 /no/such || code=$?; [ $code = 127 ]'
holds 12 "no memory device, no disk in the jail" inside '! ls /dev/mem /dev/kmem /dev/ada0 /dev/nda0 /dev/da0 2>/dev/null | grep .'
holds 13 "no other file systems are seen" sh -c '[ "$(jexec "$name" /bin/sh -c "mount -p" | wc -l)" -le 1 ]'
holds 14 "root of the jail can neither mount nor make jails" \
	sh -c '! jexec "$name" mount -t tmpfs tmpfs /tmp 2>/dev/null && ! jexec "$name" jail -c path=/ persist 2>/dev/null'
holds 15 "processes of the host are not seen" sh -c '! jexec "$name" ps -axo pid= | grep -qw 1'

inside 'sleep 1000' &
sh_holds 16 "jail -R kills what is in the jail, and leaves mounts" \
	'sleep 1; jail -R "$name"; sleep 1; ! pgrep -j "$name" . 2>/dev/null; mount -p | grep -q "$root/dev"'
wait
holds 17 "umount -f unmounts devfs" umount -f "$(realpath "$root")/dev"

if [ "$(sysctl -n kern.racct.enable 2>/dev/null)" = 1 ]; then
	sh_holds 18 "rules can be added before the jail is there, and are listed" '
		for rule in pcpu:deny=100 memoryuse:log=67108864 memoryuse:sigkill=67108864 swapuse:log=67108864 \
			swapuse:deny=67108864 maxproc:deny=20 nthr:deny=20; do
			rctl -a "jail:$name:$rule"
		done
		[ "$(rctl | grep -c "^jail:$name:")" = 7 ]'
	jail -f "$dir/jail.conf" -c "$name"
	sh_holds 19 "maxproc is kept" '
		jexec -U "$user" "$name" /bin/sh -c "for i in $(jot -s " " 30); do sleep 3 & done; wait" >"$dir/forks" 2>&1 || :
		grep -qi -e fork -e unavailable "$dir/forks"'
	# Shared by all in the jail, and punished about once a second.
	jexec -U "$user" "$name" /bin/sh -c 'x=$(head -c 300000000 /dev/zero | tr "\0" x); sleep 5; echo "$x" | wc -c' >"$dir/big" 2>&1
	sh_holds 20 "memory is kept, and the message buffer tells" 'dmesg | grep -qE "rule \"jail:$name:(memoryuse|swapuse):"; ! grep -q 300000000 "$dir/big"'
	jail -R "$name"
	umount -f "$root/dev"
	sh_holds 21 "rctl -r removes the rules of a jail" 'rctl -r "jail:$name"; ! rctl | grep -q "^jail:$name:"'
else
	echo "-- 18 to 21: kern.racct.enable is not 1 (see /boot/loader.conf): --cpus, --memory and --pids are refused"
fi

sh_holds 22 "the quota of a clone bounds what is written" '
	zfs set quota=16777216 "$dataset"
	! dd if=/dev/random of="$root/big" bs=1048576 count=64 2>/dev/null
	rm -f "$root/big"; zfs set quota=none "$dataset"'

if [ "$(sysctl -n kern.features.vimage 2>/dev/null)" = 1 ]; then
	conf "vnet;"
	holds 23 "a jail can have a network stack of its own" jail -f "$dir/jail.conf" -c "$name"
	sh_holds 24 "with lo0 and nothing else, which can be configured under securelevel 3" '
		[ "$(jexec "$name" ifconfig -l)" = lo0 ]
		jexec "$name" ifconfig lo0 inet 127.0.0.1/8 up
		jexec "$name" ping -c 1 127.0.0.1 >/dev/null || jexec "$name" ifconfig lo0 | grep -q 127.0.0.1'
	jail -R "$name"
	umount -f "$root/dev"
	sh_holds 25 "a pair is created by its number, with a description" '
		ifconfig epair32000 create description "$name" up
		ifconfig -l | grep -w epair32000a | grep -qw epair32000b
		ifconfig epair32000a | grep -q "$name"'
	conf 'vnet; vnet.interface = "epair32000b";'
	holds 26 "its other end goes into the jail" jail -f "$dir/jail.conf" -c "$name"
	sh_holds 27 "addresses and routes can be set there" '
		jexec "$name" ifconfig epair32000b inet 10.77.77.2/24 up
		jexec "$name" route -n add -inet default 10.77.77.1'
	jail -R "$name"
	umount -f "$root/dev"
	sh_holds 28 "destroying one end destroys both" 'ifconfig epair32000a destroy; ! ifconfig -l | grep -q epair32000'
else
	echo "-- 23 to 28: kern.features.vimage is not 1: --no-network and bridges are refused"
fi

sh_holds 29 "aliases come and go" '
	ifconfig lo0 inet 127.0.77.77/32 alias
	ifconfig lo0 | grep -q "inet 127.0.77.77 "
	ifconfig lo0 inet 127.0.77.77 -alias
	! ifconfig lo0 | grep -q "inet 127.0.77.77 "'
conf "ip4 = disable; ip6 = disable;"
sh_holds 34 "jls -j tells whether a jail is there; one without addresses can be made" '
	! jls -j "$name" name >/dev/null 2>&1
	jail -f "$dir/jail.conf" -c "$name"
	[ "$(jls -j "$name" name)" = "$name" ]'
# timeout(1) is a reaper, as the supervisor of builds is: it ends what it is the reaper of.
sh_holds 35 "who loses its parent in a jail has the reaper outside" '
	timeout 3 jexec -U "$user" "$name" /bin/sh -c "(sleep 1000 & ) ; sleep 1; exec sleep 1000" || :
	sleep 1; ! pgrep -j "$name" sleep'
jail -R "$name"
umount -f "$root/dev"
conf 'ip4.addr = "127.0.0.1"; ip6 = disable;'
sh_holds 30 "a jail has its own address only" 'jail -f "$dir/jail.conf" -c "$name"; ! jexec "$name" ifconfig | grep "inet " | grep -v 127.0.0.1; jail -R "$name"; umount -f "$root/dev"'
sh_holds 31 "a clone can be destroyed right after, with its snapshots" '
	zfs snapshot "$dataset@somebody"
	for try in 1 2 3 4 5 6 7 8 9 10; do zfs destroy -r -f "$dataset" && break; sleep 1; done
	! zfs list "$dataset" >/dev/null 2>&1'
sh_holds 32 "tar -p keeps modes; chflags lets files be removed" '
	mkdir "$dir/from" "$dir/to"; : >"$dir/from/f"; chmod 4711 "$dir/from/f"
	tar -c -f "$dir/x.tar" -C "$dir/from" .; tar -x -p -f "$dir/x.tar" -C "$dir/to"
	[ "$(stat -f %p "$dir/to/f")" = 104711 ]; chflags uchg "$dir/to/f"; ! rm -f "$dir/to/f" 2>/dev/null; chflags -R 0 "$dir/to"; rm "$dir/to/f"'
sh_holds 33 "daemon(8) passes TERM on, and then does not start it again" '
	cat >"$dir/worker" <<END
#!/bin/sh
echo run >>"$dir/runs"
trap "exit 0" TERM
while :; do sleep 1; done
END
	chmod +x "$dir/worker"
	daemon -P "$dir/keeper.pid" -p "$dir/pid" -r -R 1 -o "$dir/log" -t selftest "$dir/worker"
	sleep 2; kill "$(cat "$dir/pid")"; sleep 4; [ "$(wc -l <"$dir/runs")" -ge 2 ]
	keeper=$(cat "$dir/keeper.pid"); kill "$keeper"; sleep 4; ! kill -0 "$keeper" 2>/dev/null'
sh_holds 36 "rc.subr(8) runs the commands that it is told, and finds processes" '
	cat >"$dir/rc" <<END
#!/bin/sh
. /etc/rc.subr
name=builder_selftest
rcvar=builder_selftest_enable
load_rc_config \$name
: "\${builder_selftest_enable:=YES}"
start_cmd="selftest_each start" stop_cmd="selftest_each stop" status_cmd="selftest_each status"
chosen=\$*
selftest_each() { echo "\$1 \${chosen#* }"; [ "\$1" != status ]; }
run_rc_command "\$1"
END
	[ "$(sh "$dir/rc" start x)" = "start x" ]
	[ "$(sh "$dir/rc" stop x)" = "stop x" ]
	! sh "$dir/rc" status x >"$dir/status"
	grep -qx "status x" "$dir/status"
	daemon -p "$dir/sleep.pid" sleep 2
	sleep 1
	pid=$(cat "$dir/sleep.pid")
	[ "$(sh -c ". /etc/rc.subr; check_pidfile $dir/sleep.pid /bin/sleep")" = "$pid" ]
	sh -c ". /etc/rc.subr; wait_for_pids $pid" >/dev/null
	! kill -0 "$pid" 2>/dev/null'

[ $bad = 0 ] && echo "all that was tried holds"
exit $bad
