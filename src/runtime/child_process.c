#include "runtime/child.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

/* --- early: still in the host's file system ------------------------------------------------------- */

static int set_oom_score(struct child *c, struct err *e)
{
	const int32_t *score = c->process->oom_score_adj;
	auto_fd int fd = -1;
	char text[16];

	if (!score)
		return 0;
	fd = openat(c->rt->proc_fd, "self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 && errno == EACCES && geteuid() != 0) {
		log_debug("OOM score %d: not ours to set, and left as it is", *score);
		return 0;
	}
	if (fd < 0)
		return err_sys(e, errno, "open oom_score_adj");
	(void)snprintf(text, sizeof(text), "%d", *score);
	if (write(fd, text, strlen(text)) >= 0)
		return 0;
	if (errno != EACCES)
		return err_sys(e, errno, "set the OOM score to %d", *score);
	/* Lower than ours needs CAP_SYS_RESOURCE; a node without it runs its pods all the same. */
	log_debug("OOM score %d needs CAP_SYS_RESOURCE and is left as it is", *score);
	return 0;
}

/* Of an exec only: a container's first process has its cpuset. */
static int set_affinity(const struct child *c, const struct plan_bits *cpus, const char *field, struct err *e)
{
	if (c->plan || !cpus->p)
		return 0;
	if (syscall(SYS_sched_setaffinity, 0, cpus->count / 8, cpus->p) < 0)
		return err_sys(e, errno, "process.execCPUAffinity.%s", field);
	return 0;
}

/* The CPUs are the cgroup's, as with runc, not those that our caller happened to be pinned to. */
static void reset_affinity(const struct child *c)
{
	unsigned char all[128];

	if (!c->plan && (c->process->cpus_initial.p || c->process->cpus_final.p))
		return;
	memset(all, 0xff, sizeof(all));
	(void)syscall(SYS_sched_setaffinity, 0, sizeof(all), all); /* refused: then it stays as it is */
}

/* Whoever opens its stdout anew by /proc/self/fd/1 (a log that links to /dev/stdout) must own the pipe. */
static void give_pipes(const struct plan_process *p)
{
	for (int i = 0; i < 3; i++) {
		struct stat st;

		if (p->pipes_uid >= 0 && p->std[i] >= 0 && fstat(p->std[i], &st) == 0 && S_ISFIFO(st.st_mode) &&
		    st.st_uid != (uid_t)p->pipes_uid)
			(void)fchown(p->std[i], (uid_t)p->pipes_uid, (gid_t)-1); /* somebody else's it may stay */
	}
}

int child_early(struct child *c, struct err *e)
{
	(void)umask(0);
	if (set_affinity(c, &c->process->cpus_initial, "initial", e) < 0)
		return -1;
	/* "0" is whoever writes it. */
	if (c->rdt_tasks_fd >= 0 && write(c->rdt_tasks_fd, "0", 1) != 1)
		return err_sys(e, errno, "linux.intelRdt: join the class");
	if (c->cgroup && cgroup_join_self(&c->rt->cgroups, c->cgroup, c->exec_cgroup,
					  c->in_unified ? CGROUP_SKIP_UNIFIED : 0, e) < 0)
		return -1;
	for (size_t i = 0; i < c->ncgroups; i++)
		if (cgroup_join_self_in(&c->rt->cgroups, c->cgroups[i].path, c->cgroups[i].hierarchies, e) < 0)
			return err_in(e, "error adding pid to the cgroup");
	reset_affinity(c);
	if (set_affinity(c, &c->process->cpus_final, "final", e) < 0 || set_oom_score(c, e) < 0)
		return -1;
	/* What the joining process must not have: it could name another pid there. */
	if (c->guard && madvise(c->guard, sizeof(*c->guard), MADV_DONTFORK) < 0)
		return err_sys(e, errno, "keep a page");
	give_pipes(c->process);
	return 0;
}

int child_session(struct child *c, struct err *e)
{
	if (!c->guard && !(c->process->flags & CONTAINER_NO_SESSION) && setsid() < 0)
		return err_sys(e, errno, "setsid");
	if (!(c->process->flags & CONTAINER_NO_KEYRING) &&
	    syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS && errno != EDQUOT &&
	    errno != EPERM)
		return err_sys(e, errno, "make a session keyring");
	return 0;
}

int child_join(struct child *c, struct err *e)
{
	for (size_t i = 0; i < c->njoins; i++)
		if (setns(c->joins[i].fd, c->joins[i].kind) < 0)
			return err_sys(e, errno, "join a namespace (setns, kind %#x)", (unsigned)c->joins[i].kind);
	if (c->join_pidfd >= 0 && setns(c->join_pidfd, c->join_flags) < 0)
		return errno == ESRCH ? err_set(e, ERR_STATE, "the container has ended") :
		       err_sys(e, errno, "join the container's namespaces (setns)");
	return c->join_flags & CLONE_NEWUSER ? userns_become_root(e) : 0;
}

/* --- terminal ------------------------------------------------------------------------------------- */

static int send_fd(int sock, int fd, struct err *e)
{
	return fd_send_msg(sock, "t", 1, &fd, 1, e);
}

static void plain_lines(int master)
{
	struct termios t;

	if (tcgetattr(master, &t) < 0)
		return;
	t.c_oflag &= ~(tcflag_t)ONLCR;
	(void)tcsetattr(master, TCSANOW, &t); /* a wish, not a condition */
}

/* The pair comes from the container's own devpts, the slave by ioctl: no path of the container is
 * trusted on the way (CVE-2025-52565). */
int child_terminal(struct child *c, int devpts_fd, struct err *e)
{
	auto_fd int master = openat(devpts_fd, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
	auto_fd int slave = -1, tree = -1, at = -1, made = -1, dev = -1;
	const struct oci_console_size *size = c->process->console_size;
	int unlock = 0;

	if (master < 0)
		return err_sys(e, errno, "open /dev/pts/ptmx");
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return err_sys(e, errno, "unlock the terminal");
	if (c->process->flags & CONTAINER_PLAIN_LINES)
		plain_lines(master);
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return err_sys(e, errno, "open the terminal's other end");
	if (size) {
		struct winsize w = { .ws_row = (unsigned short)size->height, .ws_col = (unsigned short)size->width };

		(void)ioctl(master, TIOCSWINSZ, &w); /* a wish, not a condition */
	}
	if (fchown(slave, c->process->uid, (gid_t)-1) < 0)
		return err_sys(e, errno, "give the terminal to its user");
	if (c->plan) {
		dev = path_open_in_root(c->rootfd, "/dev", O_PATH | O_DIRECTORY, 0, e);
		if (dev < 0)
			return -1;
		made = openat(dev, "console", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		at = openat(dev, "console", O_PATH | O_NOFOLLOW | O_CLOEXEC);
		tree = open_tree(slave, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
		if (at < 0 || tree < 0)
			return err_sys(e, errno, "prepare /dev/console");
		if (mount_move_onto(tree, at, "/dev/console", e) < 0)
			return -1;
	}
	if (send_fd(c->console_sock, master, e) < 0)
		return -1;
	for (int i = 0; i < 3; i++)
		if (((struct plan_process *)c->process)->std[i] = dup(slave), c->process->std[i] < 0)
			return err_sys(e, errno, "dup the terminal");
	return 0;
}

int child_exec_terminal(struct child *c, struct err *e)
{
	auto_fd int root = fd_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, e), pts = -1;
	struct statfs st;

	if (root < 0)
		return -1;
	pts = path_open_in_root(root, "/dev/pts", O_PATH | O_DIRECTORY, 0, e);
	if (pts < 0)
		return -1;
	if (fstatfs(pts, &st) < 0 || st.f_type != DEVPTS_SUPER_MAGIC)
		return err_set(e, ERR_STATE, "process.terminal: the container has no devpts on /dev/pts");
	return child_terminal(c, pts, e);
}

/* --- fds ------------------------------------------------------------------------------------------ */

/* The container's own null device, if it has one: what is opened by /proc/self/fd/0 is then its. Whatever
 * else it has put there is neither opened nor waited for. */
static int own_null(const struct child *c)
{
	auto_fd int at = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char path[32];
	struct stat st;

	if (at < 0 || fstat(at, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return -1;
	(void)snprintf(path, sizeof(path), "self/fd/%d", at);
	return openat(c->rt->proc_fd, path, O_RDWR | O_CLOEXEC);
}

/* 0, 1, 2 and the preserved ones stay; `kept` (ours, close-on-exec) move just behind; all others are
 * closed for good, before any path of the container is walked (CVE-2024-21626). */
static int set_fds(struct child *c, int **kept, size_t nkept, struct err *e)
{
	int first = 3 + (int)c->process->preserve_fds, next, null = -1;
	int std[3];

	for (int i = 0; i < 3; i++) {
		int from = c->process->std[i];

		if (from < 0 && null < 0 && (null = own_null(c)) < 0)
			null = c->rt->null_fd;
		if (from < 0)
			from = null;

		std[i] = fcntl(from, F_DUPFD_CLOEXEC, first);
		if (std[i] < 0)
			return err_sys(e, errno, "dup fd %d", from);
	}
	for (size_t i = 0; i < nkept; i++)
		if (*kept[i] >= 0 && (*kept[i] = fcntl(*kept[i], F_DUPFD_CLOEXEC, first + 64)) < 0)
			return err_sys(e, errno, "dup");
	for (int i = 0; i < 3; i++)
		if (dup2(std[i], i) < 0)
			return err_sys(e, errno, "dup2");
	for (int i = 3; i < first; i++)
		(void)fcntl(i, F_SETFD, 0);
	next = first;
	/* The kept ones are in ascending order from first + 64 on, with nothing of ours between. */
	for (size_t i = 0; i < nkept; i++) {
		if (*kept[i] < 0)
			continue;
		if (*kept[i] > next && syscall(SYS_close_range, next, *kept[i] - 1, 0) < 0)
			return err_sys(e, errno, "close_range");
		next = *kept[i] + 1;
	}
	return syscall(SYS_close_range, next, ~0u, 0) < 0 ? err_sys(e, errno, "close_range") : 0;
}

/* --- credentials ---------------------------------------------------------------------------------- */

static int set_limits(const struct plan_process *p, struct err *e)
{
	for (size_t i = 0; i < p->nrlimits; i++) {
		struct rlimit limit = p->rlimits[i].limit, now;

		if (setrlimit((__rlimit_resource_t)p->rlimits[i].resource, &limit) == 0)
			continue;
		if (errno != EPERM || getrlimit((__rlimit_resource_t)p->rlimits[i].resource, &now) < 0)
			return err_sys(e, errno, "set a resource limit (%d)", p->rlimits[i].resource);
		/* Above our own hard limit without CAP_SYS_RESOURCE: as near as we may. */
		limit.rlim_max = MIN(limit.rlim_max, now.rlim_max);
		limit.rlim_cur = MIN(limit.rlim_cur, limit.rlim_max);
		if (setrlimit((__rlimit_resource_t)p->rlimits[i].resource, &limit) < 0)
			return err_sys(e, errno, "set a resource limit (%d)", p->rlimits[i].resource);
	}
	return 0;
}

struct sched_attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static int set_scheduling(const struct plan_process *p, struct err *e)
{
	if (p->scheduler) {
		struct sched_attributes a = {
			.size = sizeof(a), .policy = (uint32_t)p->scheduler_policy, .flags = p->scheduler_flags,
			.nice = p->scheduler->nice, .priority = (uint32_t)p->scheduler->priority,
			.runtime = p->scheduler->runtime, .deadline = p->scheduler->deadline,
			.period = p->scheduler->period,
		};

		if (syscall(SYS_sched_setattr, 0, &a, 0) < 0)
			return err_sys(e, errno, "process.scheduler %s", p->scheduler->policy);
	}
	if (p->io_priority >= 0 && syscall(SYS_ioprio_set, 1, 0, p->io_priority) < 0)
		return err_sys(e, errno, "process.ioPriority");
	if (p->personality >= 0 && personality((unsigned long)p->personality) < 0)
		return err_sys(e, errno, "linux.personality");
	if (p->memory_policy >= 0 &&
	    syscall(SYS_set_mempolicy, p->memory_policy, p->memory_nodes.p, p->memory_nodes.count) < 0)
		return err_sys(e, errno, "linux.memoryPolicy");
	return 0;
}

/* The label takes effect at exec. */
static int set_labels(int proc_fd, const struct plan_process *p, struct err *e)
{
	char text[512];

	if (!str_is_empty(p->apparmor) && !streq(p->apparmor, "unconfined")) {
		auto_fd int fd = openat(proc_fd, "self/attr/apparmor/exec", O_WRONLY | O_CLOEXEC);
		int n = snprintf(text, sizeof(text), "exec %s", p->apparmor);

		if (fd < 0)
			return err_set(e, ERR_INVALID, "process.apparmorProfile \"%s\": this kernel has no AppArmor",
				       p->apparmor);
		if (write(fd, text, (size_t)n) < 0)
			return err_sys(e, errno, "process.apparmorProfile \"%s\"", p->apparmor);
	}
	if (!str_is_empty(p->selinux)) {
		auto_fd int fd = -1;

		/* Without SELinux labels mean nothing: containerd and CRI-O pass them on regardless. */
		if (access("/sys/fs/selinux/enforce", F_OK) < 0)
			return 0;
		fd = openat(proc_fd, "self/attr/exec", O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, p->selinux, strlen(p->selinux)) < 0)
			return err_sys(e, errno, "process.selinuxLabel \"%s\"", p->selinux);
	}
	return 0;
}

static int set_user(const struct plan_process *p, struct err *e)
{
	bool changes = p->uid != 0;

	if (caps_drop_bounding(p->own_bounding, p->caps.bounding, e) < 0)
		return -1;
	if (changes && caps_keep_over_setuid(e) < 0)
		return -1;
	/* By number, on the system call: glibc's wrappers would tell other threads. */
	if (!(p->flags & CONTAINER_KEEP_GROUPS) && syscall(SYS_setgroups, p->ngids, p->gids) < 0 &&
	    (errno != EPERM || p->ngids))
		return err_sys(e, errno, "set %zu supplementary groups", p->ngids);
	if (syscall(SYS_setresgid, p->gid, p->gid, p->gid) < 0)
		return err_sys(e, errno, "become group %u", p->gid);
	if (syscall(SYS_setresuid, p->uid, p->uid, p->uid) < 0)
		return err_sys(e, errno, "become user %u", p->uid);
	return 0;
}

/* No /proc/self/fd/N, no way out: by openat2 within the root, and only then entered. */
static int enter_cwd(const char *cwd, struct err *e)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	auto_fd int fd = -1;

	if (!cwd[1])
		return chdir("/") < 0 ? err_sys(e, errno, "process.cwd /") : 0;
	fd = (int)syscall(SYS_openat2, AT_FDCWD, cwd, &how, sizeof(how));
	if (fd < 0 || fchdir(fd) < 0)
		return err_sys(e, errno, "process.cwd %s", cwd);
	return 0;
}

/* --- exec ----------------------------------------------------------------------------------------- */

static bool is_program(const char *path, struct err *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	if (S_ISDIR(st.st_mode)) {
		(void)err_set(e, ERR_DENIED, "exec: \"%s\": is a directory", path);
		return false;
	}
	/* A seccomp filter may not know the call (its errors are not the file's): then the exec itself says it. */
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 && errno == EACCES) {
		(void)err_set(e, ERR_DENIED, "exec: \"%s\": permission denied", path);
		return false;
	}
	return true;
}

static int find_program(const struct plan_process *p, char out[PATH_MAX], struct err *e)
{
	const char *name = p->args[0];
	struct str rest = str_of(p->path);

	err_clear(e);
	if (strchr(name, '/')) {
		(void)snprintf(out, PATH_MAX, "%s", name);
		if (is_program(out, e))
			return 0;
		return e->kind ? -1 : err_set(e, ERR_NOT_FOUND, "exec: \"%s\": no such file or directory", name);
	}
	while (*name && rest.p) {
		struct str dir = str_cut(&rest, ':');

		(void)snprintf(out, PATH_MAX, "%.*s%s%s", STR_ARG(dir), dir.len ? "/" : "", name);
		if (is_program(out, e))
			return 0;
	}
	if (e->kind)
		return -1;
	return err_set(e, ERR_NOT_FOUND, "exec: \"%s\": executable file not found in $PATH", name);
}

static int exec_failed(const struct plan_process *p, const char *path, struct err *e)
{
	switch (errno) {
	case ENOENT:
		return err_set(e, ERR_NOT_FOUND, "exec %s: no such file or directory: its interpreter (\"#!\" line "
			       "or loader) does not exist in the container", path);
	case ENOEXEC:
		return err_set(e, ERR_DENIED, "exec: \"%s\": exec format error (another architecture, or a script "
			       "without \"#!\")", path);
	case EACCES:
		return err_set(e, ERR_DENIED, "exec: \"%s\": permission denied", path);
	default:
		return err_sys(e, errno, "exec: \"%s\"", path ? path : p->args[0]);
	}
}

static int set_signals(struct err *e)
{
	sigset_t none;

	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return err_sys(e, errno, "unblock signals");
	return 0;
}

static void end(int sig)
{
	(void)syscall(SYS_exit_group, 128 + sig);
}

/* The first process of a pid namespace gets no signal that it does not ask for; one that is only created shall end by
 * what ends others. The exec takes the handlers away. */
static int end_by_signals(struct err *e)
{
	static const int ends[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
	struct sigaction act = { .sa_handler = end };

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (sigaction(ends[i], &act, NULL) < 0)
			return err_sys(e, errno, "wait for start");
	return 0;
}

static int wait_for_start(struct child *c, int fifo, int proc, struct err *e)
{
	char path[32];
	int fd, pid;

	if (!(c->process->flags & CONTAINER_WAIT))
		return 0;
	if (fifo < 0)
		return child_wait(c, CHILD_READY, &pid, e);
	if (child_wait(c, CHILD_READY, &pid, e) < 0)
		return -1;
	(void)snprintf(path, sizeof(path), "self/fd/%d", fifo);
	do {
		fd = openat(proc, path, O_WRONLY | O_CLOEXEC);
	} while (fd < 0 && errno == EINTR);
	if (fd < 0 || write(fd, "0", 1) != 1)
		return err_sys(e, errno, "wait for start");
	return 0;
}

static int load_filter(struct child *c, struct err *e)
{
	const struct plan_process *p = c->process;
	int pid;

	if (!p->filter.count)
		return 0;
	if (!p->listener_path)
		return seccomp_load(&p->filter, p->filter_flags, e);
	/* The parent finds the agent first: afterwards nothing may fail for want of it. */
	if (child_wait(c, CHILD_LISTENS, &pid, e) < 0)
		return -1;
	return listener_load(c->listener, &p->filter, p->filter_flags, e);
}

static int become(struct child *c, int *proc, bool keep_proc, struct err *e)
{
	const struct plan_process *p = c->process;
	bool entered;

	if (!c->guard && p->terminal && ioctl(0, TIOCSCTTY, 0) < 0)
		return err_sys(e, errno, "make the terminal the controlling one");
	if (set_limits(p, e) < 0 || set_scheduling(p, e) < 0 || set_labels(*proc, p, e) < 0)
		return -1;
	/* From here on paths of the container are walked: through the host's /proc one would lead to programs
	 * of the host and of other containers (CVE-2024-21626). */
	if (!keep_proc)
		fd_close(proc);
	/* Before a filter, which may not know openat2. */
	entered = enter_cwd(p->cwd, e) == 0;
	if (!entered && e->kind != ERR_DENIED)
		return -1;
	/* Without no_new_privs only CAP_SYS_ADMIN may load a filter: before it is dropped. */
	if ((!p->no_new_privs && load_filter(c, e) < 0) || set_user(p, e) < 0)
		return -1;
	/* Root may lack rights there (a root-squashing NFS) that the user has. */
	if (!entered && enter_cwd(p->cwd, e) < 0)
		return -1;
	if (caps_set(&p->caps, e) < 0)
		return -1;
	/* Where fs.suid_dumpable is 1, the change of user has made our memory (and, shared, our parent's)
	 * readable. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_sys(e, errno, "stay non-dumpable");
	(void)umask(p->umask);
	if (p->parent_death_signal && prctl(PR_SET_PDEATHSIG, p->parent_death_signal) < 0)
		return err_sys(e, errno, "set the parent's death signal");
	return 0;
}

/* In the container's pid namespace somebody may trace: what enters it has nothing left that the
 * container has not: no fd, no memory of its parent's that it could write, no capability, and the filter. */
static int enter_guarded(struct child *c, struct err *e)
{
	const struct plan_process *p = c->process;
	long pid = syscall(SYS_clone, (unsigned long)(CLONE_PARENT | SIGCHLD), 0, 0, 0, 0);

	if (pid < 0)
		return err_sys(e, errno, "join the pid namespace (setns)");
	if (pid > 0) {
		*c->guard = (pid_t)pid;
		(void)syscall(SYS_exit_group, 0);
	}
	if (!(p->flags & CONTAINER_NO_SESSION) && setsid() < 0)
		return err_sys(e, errno, "setsid");
	if (p->terminal && ioctl(0, TIOCSCTTY, 0) < 0)
		return err_sys(e, errno, "make the terminal the controlling one");
	if (p->parent_death_signal && prctl(PR_SET_PDEATHSIG, p->parent_death_signal) < 0)
		return err_sys(e, errno, "set the parent's death signal");
	return 0;
}

static int set_no_new_privs(struct err *e)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? err_sys(e, errno, "set no_new_privs") : 0;
}

int child_finish(struct child *c, struct err *e)
{
	const struct plan_process *p = c->process;
	int proc = c->rt->proc_fd, sync = c->sync_fd, fifo = c->fifo_fd;
	int *kept[] = { &proc, &sync, &fifo };
	char path[PATH_MAX];

	if (set_fds(c, kept, ARRAY_SIZE(kept), e) < 0)
		return -1;
	c->sync_fd = sync;
	if (c->process->flags & CONTAINER_WAIT && end_by_signals(e) < 0) /* before a filter, which may not know the call */
		return -1;
	if (become(c, &proc, fifo >= 0, e) < 0 || find_program(p, path, e) < 0 || set_signals(e) < 0)
		return -1;
	/* The parent may be gone after that: the one filter that needs it is loaded before. */
	if (p->no_new_privs && p->listener_path && (set_no_new_privs(e) < 0 || load_filter(c, e) < 0))
		return -1;
	if (wait_for_start(c, fifo, proc, e) < 0 || child_start_hooks(c, e) < 0)
		return -1;
	/* A filter that is loaded already might refuse it: then there is no exec. */
	if (proc >= 0 && close(proc) < 0)
		return err_sys(e, errno, "close /proc");
	if (p->no_new_privs && !p->listener_path && (set_no_new_privs(e) < 0 || load_filter(c, e) < 0))
		return -1;
	if (c->guard && enter_guarded(c, e) < 0)
		return -1;
	(void)execve(path, p->args, p->env);
	return exec_failed(p, path, e);
}
