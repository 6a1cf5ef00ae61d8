/* Processes, by pidfd. proc_spawn() is the one way to make a process in a threaded program: clone with
 * CLONE_VFORK|CLONE_VM on a stack of its own, nothing but system calls in the child, then exec. */
#ifndef KNARR_BASE_PROC_H
#define KNARR_BASE_PROC_H

#include "base/call.h"
#include "base/err.h"

#include <sys/types.h>

enum { PROC_FDS_MAX = 32 };

/* How to start a program. The child has no fds but 0, 1, 2 and those named; no signal is blocked or
 * ignored in it; it is in the session of its own if PROC_NEW_SESSION. */
struct proc_spec {
	const char *file;   /* a path; or NULL to exec exec_fd (execveat) */
	int exec_fd;        /* used when file is NULL */
	char *const *argv;
	char *const *envp;  /* NULL: an empty environment */
	const char *cwd;    /* NULL: "/" */
	int std_in, std_out, std_err; /* -1: /dev/null */
	struct { int from, to; } fds[PROC_FDS_MAX]; /* further fds, `to` > 2 */
	size_t nfds;
	int mount_ns_fd;    /* setns into it before exec; -1: stay */
	const int *ns_fds;  /* and into these, of any other kind but CLONE_NEWPID and CLONE_NEWUSER */
	size_t nns_fds;
	unsigned flags;
	int parent_death_signal; /* 0: none; the kernel sends it when the thread that spawned ends */
	int cgroup_fd;      /* of the unified hierarchy, to be born in (joining it costs milliseconds); -1: ours */
	int new_namespaces; /* CLONE_NEW* to be born in (CLONE_NEWPID: only a child can be) */
};
#define PROC_SPEC_INIT { .exec_fd = -1, .std_in = -1, .std_out = -1, .std_err = -1, \
			 .mount_ns_fd = -1, .cgroup_fd = -1 }
enum { PROC_NEW_SESSION = BIT(0), PROC_KEEP_CWD = BIT(1), PROC_NEW_MOUNT_NS = BIT(2),
       PROC_OOM_SCORE_ZERO = BIT(3) /* the parent's may be a very low one */ };

struct proc {
	pid_t pid;
	int pidfd;
};

/* Returns when the child has exec'ed or failed; a failed exec is this function's error. The caller
 * owns out->pidfd and must reap the child (proc_wait, or a reaper of its own). */
int proc_spawn(const struct proc_spec *spec, struct proc *out, struct err *e);

struct proc_exit {
	int code;   /* exit code, or 128 + signal */
	int signal; /* 0 if it exited by itself */
};

/* Waits for the end of a child and reaps it. When the call is over first: -1, the child still runs. */
int proc_wait(struct call *c, const struct proc *p, struct proc_exit *out, struct err *e);
/* SIGKILL by pidfd, then reaps it. For a child that must not outlive its purpose. */
void proc_kill_and_reap(const struct proc *p);
int proc_signal(int pidfd, int sig, struct err *e);
int proc_pidfd_open(pid_t pid, struct err *e); /* the caller owns the fd */
bool proc_pidfd_is_dead(int pidfd);

/* Runs a program to its end: stdin from `in` (may be empty), stdout and stderr collected up to the
 * buffers' maxima (more is read and dropped, with the fact noted). Past the call's end the whole
 * session is killed. */
struct proc_output {
	struct proc_exit exit;
	bool cut; /* a buffer was full */
};
struct buf;
struct str;
int proc_run(struct call *c, struct proc_spec *spec, struct str in, struct buf *out, struct buf *err_out,
	     struct proc_output *result, struct err *e);

/* The start time of a process in clock ticks since boot (/proc/PID/stat field 22): pid and start
 * time together name a process for good. */
int proc_start_time(pid_t pid, uint64_t *ticks, struct err *e);

#endif
