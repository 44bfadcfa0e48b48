// Package container is the kind of sandbox that runs each build in a container of
// its own, made by containerd (1.6, 1.7 or 2.x).
//
// The invariant: nothing of one build is seen by another one, and when a Place is
// destroyed nothing is left of it. The kernel keeps the first half of
// [sandbox.Place]'s invariant: the script has a pid namespace, whose first process
// is ours, and when that ends all others are killed.
//
// # What is made for a build
//
// Everything is called builder-WORKER-BUILD: the beginning of the worker's id, and
// the uuid of the build (or "warm-" and something random, for one that was made
// ahead). So Sweep finds what a killed worker has left, and nothing else.
//
//	containerd, in the namespace "builder":
//	    lease, snapshot, container, task
//	cgroup   /builder-WORKER-BUILD
//	DIR/builder-WORKER-BUILD/         on the host        in the container
//	    control/                      written by us      /builder/control, read-only
//	        script  start             what is run, and what belongs to this build only
//	        stop                      is there when the build is to end
//	        end                       a FIFO, see program
//	        enter                     for people, see Keep
//	    work/                         tmpfs if disk is   /builder
//	        out/ home/ tmp/           bounded            (tmp is /tmp as well)
//	        exit                      written by the first process, see program
//	    console                       a FIFO, written by containerd's shim
//	    network/                      of CNI: what was joined, files for /etc, and
//	        namespace                 the container's, mounted until that is taken back
//
// # Who watches whom
//
//	script ends            the first process writes its status to work/exit and ends
//	Run's context ends     TERM to all but the first process, the grace period, KILL
//	containerd dies        the build runs on; Run asks again until it is back
//	worker dies            the build runs on, and when it has ended the first process
//	                       waits for the next worker, which goes on by Resume
//
// # What can not be promised
//
// The kernel is shared: who finds a hole in it is outside. A build that runs as
// root in the container is root of no namespace, without capabilities unless they
// are given, and can not gain any.
package container
