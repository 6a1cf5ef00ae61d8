/* knarr-pod: one per pod. Holds the pod's namespaces, is its containers' parent, writes their logs and
 * exit records, runs exec sessions. docs/inside/monitor.md tells how, docs/formats/monitor.md is its
 * protocol. Started by knarrd with one connection on fd 3; a person has no use for it. */
#include "monitor/state.h"

#include "base/opt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BIRTH_FD = 3 };

/* Pages that are never touched cost nothing. */
static struct pod pod;
static char scratch[SCRATCH_BYTES] __attribute__((aligned(4096)));
static char packet[MESSAGE_MAX] __attribute__((aligned(4096)));

static int signals_open(struct pod *p, struct err *e)
{
	sigset_t all, children;

	/* Nothing but SIGKILL ends a monitor; what a client sends into a closed pipe or a full file
	 * comes back as an errno. */
	sigfillset(&all);
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		return err_sys(e, errno, "sigprocmask");
	p->signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	if (p->signals < 0)
		return err_sys(e, errno, "signalfd");
	return loop_watch(p, p->signals, EPOLLIN, SOURCE_SIGNALS, 0, STREAM_OUT, e);
}

static int begin(struct pod *p, struct err *e)
{
	p->listen = p->state_dir = p->signals = p->pod_pidns = p->pod_userns = -1;
	p->handler.dir_fd = p->handler.mount_ns_fd = -1;
	p->scratch = scratch;
	p->packet = packet;
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll < 0)
		return err_sys(e, errno, "epoll_create");
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || prctl(PR_SET_NAME, "knarr-pod") < 0 ||
	    prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_sys(e, errno, "prctl");
	if (signals_open(p, e) < 0)
		return -1;
	if (fcntl(BIRTH_FD, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(e, ERR_INVALID, "knarr-pod is started by knarrd only");
	if (fd_set_nonblocking(BIRTH_FD, e) < 0)
		return -1;
	return serve_adopt(p, BIRTH_FD, e);
}

int main(int argc, char **argv)
{
	struct err e;

	if (argc == 2 && streq(argv[1], "--version")) {
		(void)printf("knarr-pod %s, protocol %d\n", KNARR_VERSION, MESSAGE_VERSION);
		return 0;
	}
	/* Keeps a scope of systemd's, and nothing else, until knarrd ends it, or ends. */
	if (argc == 2 && streq(argv[1], "--hold")) {
		char byte;

		while (read(0, &byte, 1) > 0)
			;
		_exit(0);
	}
	if (begin(&pod, &e) < 0 || loop_run(&pod, &e) < 0) {
		(void)fprintf(stderr, "knarr-pod: %s\n", e.msg);
		_exit(1);
	}
	_exit(0); /* nothing to flush or free: the kernel closes all */
}
