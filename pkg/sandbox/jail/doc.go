// Package jail is the kind of sandbox that runs each build in a jail of its own, on
// FreeBSD: a clone of a ZFS snapshot, or what a tar archive holds, entered by an
// unprivileged user. The worker is root. Everything is done by commands of the
// system ([Runner]), all of which stand in commands.go with their manual pages.
//
// The invariant: nothing of one build is seen by another one, and when a Place is
// destroyed nothing is left of it; what a killed worker leaves is found by its name.
//
// # What is made for a build
//
// Everything is called builder-WORKER-BUILD: the beginning of the worker's id, and
// the uuid of the build (or "warm-" and something random, for one that was made
// ahead). In the order of making; it is taken away in the reverse order:
//
//	DIR/builder-WORKER-BUILD/         the first thing made, the last one removed
//	    jail.conf                     generated, see jail.conf(5)
//	    network                       what was changed of the host's network
//	    root/                         the jail's root
//	    kept.conf  enter              of a place that is kept, see Keep
//	PARENT/builder-WORKER-BUILD       the clone, mounted on root/
//	    /builder/script               what is run, root's
//	    /builder/out home/ tmp/       the build's, as in the other kinds
//	jail:builder-WORKER-BUILD:...     rules of rctl(8)
//	an alias on an interface, or a pair of epair(4)
//	the jail, with devfs on root/dev
//
// # Who watches whom
//
//	script ends            the supervisor kills what is left of its tree, then the
//	                       jail is removed, which kills all that is in it
//	Run's context ends     TERM to the tree, the grace period, KILL, as above
//	worker dies            the supervisor kills the tree; the rest stays until the
//	                       next Sweep, or Reattach
//
// # What can not be promised
//
// The kernel is shared: who finds a hole in it is outside. The memory bound is on
// what is resident and on the swap that is reserved, each by itself; the kernel looks
// at the former once a second or so.
package jail
