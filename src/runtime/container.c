#include "runtime/container.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/str.h"
#include "kernel/clone.h"
#include "kernel/netdev.h"
#include "runtime/child.h"
#include "runtime/resources.h"
#include "runtime/stack.h"
#include "spec/oci_state.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- the clone ------------------------------------------------------------------------------------ */

struct launch {
	struct runtime *rt;
	struct child *child;
	void (*body)(void *);
	uint64_t namespaces;
	int pid_ns_fd;          /* to join for the moment of the clone; -1 */
	const char *unified;    /* the v2 cgroup to be cloned into; NULL */
	bool waits;             /* the child talks to us before it execs: memory of its own */
	const struct oci_state *state; /* for a seccomp agent; pid 0: the process itself is the container's first */
	bool staged;            /* it makes the container's process, and ends */
	bool guarded;           /* it joins the pid namespace as its last act, as another process */
	int sync_fd;            /* our end */
	int console_sock;       /* our end */
	int guard_pidfd;
};

static void reap(struct container_process *p)
{
	siginfo_t info;

	if (p->pidfd < 0)
		return;
	(void)syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
	while (waitid((idtype_t)P_PIDFD, (id_t)p->pidfd, &info, WEXITED) < 0 && errno == EINTR)
		;
}

void container_process_close(struct container_process *p)
{
	fd_close(&p->pidfd);
	fd_close(&p->console_fd);
	fd_close(&p->start_fd);
}

static int do_clone(struct launch *l, struct container_process *p, struct err *e)
{
	auto_fd int cgroup_fd = -1;
	struct clone_spec spec = {
		.namespaces = l->namespaces, .cgroup_fd = -1, .stack = l->rt->stack,
		.stack_bytes = RUNTIME_STACK_BYTES, .flags = l->waits ? 0 : CLONE_SHARE,
	};
	pid_t pid;

	/* execCPUAffinity.initial is for the way into the cgroup, so it must not be born there. */
	if (l->unified && !l->child->process->cpus_initial.p &&
	    cgroup_open_unified(&l->rt->cgroups, l->unified, &cgroup_fd, e) == 0) {
		spec.cgroup_fd = cgroup_fd;
		l->child->in_unified = true;
	}
	if (l->pid_ns_fd >= 0 && setns(l->pid_ns_fd, CLONE_NEWPID) < 0)
		return errno == ESRCH ? err_set(e, ERR_STATE, "the container has ended") :
		       err_sys(e, errno, "join the pid namespace (setns)");
	pid = clone_run(&spec, l->body, l->child, &p->pidfd, e);
	if (l->pid_ns_fd >= 0 && setns(l->rt->pidns_fd, CLONE_NEWPID) < 0)
		BUG("cannot come back to our own pid namespace");
	if (pid < 0)
		return -1;
	p->pid = pid;
	return 0;
}

/* The last words of a guarded process may be a tracer's. */
static int said_by_child(struct child_message *m, struct err *e)
{
	m->e.msg[sizeof(m->e.msg) - 1] = '\0';
	*e = m->e;
	if (e->kind <= ERR_NONE || e->kind >= ERR_KIND_COUNT)
		return err_set(e, ERR_INTERNAL, "the container's process answered with rubbish");
	return -1;
}

/* A message of the child; its end without one is an error that names the stage. */
static int hear(struct launch *l, enum child_stage *stage, struct err *e)
{
	struct child_message m;
	ssize_t n;

	do {
		n = recv(l->sync_fd, &m, sizeof(m), 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys(e, errno, "hear from the container's process");
	if (n != sizeof(m))
		return err_set(e, ERR_INTERNAL, "the container's process was killed while it was set up (out of "
			       "memory?)");
	if (m.stage == CHILD_FAILED)
		return said_by_child(&m, e);
	*stage = m.stage;
	return 0;
}

static int answer(int sync_fd, int pid, struct err *e)
{
	struct child_message m = { .stage = CHILD_READY, .pid = pid };

	if (send(sync_fd, &m, sizeof(m), MSG_NOSIGNAL) != sizeof(m))
		return err_sys(e, errno, "answer the container's process");
	return 0;
}

static int take_console(struct launch *l, struct container_process *p, struct err *e)
{
	char byte;
	size_t n = 1;
	int fd;

	if (l->console_sock < 0)
		return 0;
	if (fd_recv_msg(l->console_sock, &byte, 1, &fd, &n, e) < 0)
		return err_in(e, "receive the terminal");
	if (n != 1)
		return err_set(e, ERR_INTERNAL, "the terminal did not arrive");
	p->console_fd = fd;
	return 0;
}

static int sockets(struct launch *l, struct err *e)
{
	int pair[2];

	l->sync_fd = l->console_sock = l->child->sync_fd = l->child->console_sock = -1;
	if (l->waits) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
			return err_sys(e, errno, "socketpair");
		l->sync_fd = pair[0];
		l->child->sync_fd = pair[1];
	}
	if (l->child->process->terminal) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			return err_sys(e, errno, "socketpair");
		l->console_sock = pair[0];
		l->child->console_sock = pair[1];
	}
	return 0;
}

static void close_sockets(struct launch *l)
{
	fd_close(&l->sync_fd);
	fd_close(&l->console_sock);
	fd_close(&l->child->sync_fd);
	fd_close(&l->child->console_sock);
}

/* --- the seccomp agent ---------------------------------------------------------------------------- */

/* Until the process that has joined the pid namespace exists, or the one before needs the agent's answer. */
static int final_pid(const struct launch *l, int listener, int pid)
{
	struct pollfd either[2] = { { listener, POLLIN, 0 }, { l->guard_pidfd, POLLIN, 0 } };

	if (!l->guarded)
		return pid;
	while (poll(either, 2, -1) < 0 && errno == EINTR)
		;
	return either[1].revents && *l->child->guard > 0 ? *l->child->guard : pid;
}

/* Between the child's CHILD_LISTENS and its next word. */
static int pass_listener(struct launch *l, const struct container_process *p, struct err *e)
{
	struct listener_report r = { .metadata = l->child->process->listener_metadata };
	struct oci_state state = *l->state;
	auto_fd int agent = -1, listener = -1;
	enum child_stage stage;
	struct err why;

	if (listener_connect(l->child->process->listener_path, &agent, e) < 0 || answer(l->sync_fd, p->pid, e) < 0)
		return -1;
	if (listener_take(l->child->listener, p->pidfd, &listener, e) < 0) {
		if (e->kind == ERR_STATE && hear(l, &stage, &why) < 0)
			*e = why;
		return -1;
	}
	l->guard_pidfd = p->pidfd;
	r.pid = final_pid(l, listener, p->pid);
	state.pid = state.pid ? state.pid : p->pid;
	r.state = &state;
	return listener_send(agent, listener, &r, e);
}

static int hear_listener(struct launch *l, const struct container_process *p, struct err *e)
{
	enum child_stage stage;

	if (!l->child->listener)
		return 0;
	if (hear(l, &stage, e) < 0)
		return -1;
	if (stage != CHILD_LISTENS)
		return err_set(e, ERR_INTERNAL, "the container's process answered with rubbish");
	return pass_listener(l, p, e);
}

/* --- waiting children ----------------------------------------------------------------------------- */

static int run_hooks(const struct container_spec *s, const char *name, const struct json_vec *hooks, int pid,
		     struct err *e)
{
	struct oci_state state = {
		.oci_version = (char *)OCI_VERSION, .id = (char *)s->id,
		.status = (char *)oci_status_name(OCI_CREATING), .pid = pid, .bundle = (char *)s->bundle,
		.annotations = s->config->annotations,
	};

	return hooks->count ? container_hooks_run(name, hooks, NULL, &state, e) : 0;
}

/* The exec closes its end; a failed one speaks first. */
static int await_exec(struct launch *l, struct err *e)
{
	enum child_stage stage;
	char byte;

	while (recv(l->sync_fd, &byte, 1, MSG_PEEK) < 0 && errno == EINTR)
		;
	if (recv(l->sync_fd, &byte, 1, MSG_PEEK) == 0)
		return 0;
	return hear(l, &stage, e);
}

/* The process that was cloned has gone, and left another one, a child of ours too, in its place. */
static int take_over(struct container_process *p, pid_t pid, struct err *e)
{
	int fd;

	reap(p);
	fd_close(&p->pidfd);
	if (pid <= 0)
		return err_set(e, ERR_INTERNAL, "the container's process was killed while it was set up (out of "
			       "memory?)");
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return err_sys(e, errno, "open the container's process");
	p->pid = pid;
	p->pidfd = fd;
	return 0;
}

/* What the first stage has made counts from here on; if that has failed, there is nothing to follow. */
static int follow(struct launch *l, struct container_process *p, struct err *e)
{
	return l->staged && *l->child->second > 0 ? take_over(p, *l->child->second, e) : 0;
}

/* Once the container's network namespace exists. */
static int move_net_devices(const struct runtime *rt, const struct container_spec *s, pid_t pid, struct err *e)
{
	const struct json *all = s->config->on_linux->net_devices;
	auto_fd int theirs = -1, ours = -1;
	char path[32];

	if (!all || !all->count)
		return 0;
	(void)snprintf(path, sizeof(path), "%d/ns/net", pid);
	theirs = fd_open(rt->proc_fd, path, O_RDONLY, e);
	ours = theirs < 0 ? -1 : fd_open(rt->proc_fd, "self/ns/net", O_RDONLY, e);
	if (ours < 0)
		return err_in(e, "linux.netDevices");
	for (const struct json *d = all->first; d; d = d->next)
		if (netdev_move(d->key, theirs, oci_net_device_name(d), ours, e) < 0)
			return err_in(e, "linux.netDevices.%s", d->key);
	return 0;
}

/* Goes along with the child until it execs, or (CONTAINER_WAIT) stands ready to. */
static int accompany(struct launch *l, const struct container_spec *s, struct container_process *p,
		     struct err *e)
{
	const struct oci_hooks *hooks = s->config->hooks;
	enum child_stage stage;
	struct err lost;
	int heard;

	fd_close(&l->child->sync_fd);
	heard = hear(l, &stage, e);
	if (follow(l, p, &lost) < 0 && heard == 0) {
		*e = lost;
		return -1;
	}
	if (heard < 0 || move_net_devices(l->rt, s, p->pid, e) < 0)
		return -1;
	if (hooks && (run_hooks(s, "prestart", &hooks->prestart, p->pid, e) < 0 ||
		      run_hooks(s, "createRuntime", &hooks->create_runtime, p->pid, e) < 0))
		return -1;
	if (answer(l->sync_fd, p->pid, e) < 0 || hear_listener(l, p, e) < 0)
		return -1;
	if (s->flags & CONTAINER_WAIT) {
		if (hear(l, &stage, e) < 0)
			return -1;
		/* By a fifo anyone starts it later; else by our end of the socket. */
		if (s->exec_fifo_fd >= 0)
			return answer(l->sync_fd, p->pid, e);
		p->start_fd = fd_take(&l->sync_fd);
		return 0;
	}
	return await_exec(l, e);
}

/* An exec waits only for the agent of its filter. */
static int accompany_exec(struct launch *l, struct container_process *p, struct err *e)
{
	fd_close(&l->child->sync_fd);
	return hear_listener(l, p, e) < 0 ? -1 : await_exec(l, e);
}

/* Until the last of its socket is closed: by the exec, or by its end. */
static int accompany_guarded(struct launch *l, struct container_process *p, struct err *e)
{
	struct child_message m;
	struct err lost;
	ssize_t n;

	fd_close(&l->child->sync_fd);
	if (hear_listener(l, p, e) < 0)
		return -1;
	do {
		n = recv(l->sync_fd, &m, sizeof(m), 0);
	} while (n < 0 && errno == EINTR);
	if (take_over(p, *l->child->guard, &lost) < 0 && n == 0) {
		*e = lost;
		return -1;
	}
	if (n == 0)
		return 0;
	if (n == sizeof(m) && m.stage == CHILD_FAILED)
		return said_by_child(&m, e);
	return err_set(e, ERR_INTERNAL, "the container's process answered with rubbish");
}

int container_start(struct container_process *p, struct err *e)
{
	auto_fd int sync = fd_take(&p->start_fd);
	struct child_message m;
	ssize_t n;

	if (sync < 0)
		return err_set(e, ERR_STATE, "the container's process does not wait for its start");
	if (answer(sync, p->pid, e) < 0)
		return -1;
	do {
		n = recv(sync, &m, sizeof(m), 0);
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	if (n == sizeof(m) && m.stage == CHILD_FAILED)
		return said_by_child(&m, e);
	return err_set(e, ERR_INTERNAL, "the container's process answered its start with rubbish");
}

/* --- create --------------------------------------------------------------------------------------- */

/* What is not given is the null device. */
static int streams(struct runtime *rt, int in, int out, int err, struct err *e)
{
	return in < 0 || out < 0 || err < 0 ? runtime_null(rt, e) : 0;
}

static bool must_wait(const struct container_spec *s)
{
	const struct oci_hooks *h = s->config->hooks;

	const struct json *devices = s->config->on_linux->net_devices;

	return s->flags & CONTAINER_WAIT || (devices && devices->count) ||
	       (h && (h->prestart.count || h->create_runtime.count || h->create_container.count ||
		      h->start_container.count));
}

static int accompany_any(struct launch *l, const struct container_spec *s, struct container_process *p, struct err *e)
{
	return l->guarded ? accompany_guarded(l, p, e) : s ? accompany(l, s, p, e) : accompany_exec(l, p, e);
}

static int launch_it(struct launch *l, const struct container_spec *s, struct container_process *p, struct err *e)
{
	struct err said;

	err_clear(&said);
	l->child->e = &said;
	if (l->child->process->listener_path) {
		l->waits = true;
		l->child->listener = listener_page_new(e);
		if (!l->child->listener)
			return -1;
	}
	if (sockets(l, e) < 0 || do_clone(l, p, e) < 0) {
		close_sockets(l);
		return -1;
	}
	fd_close(&l->child->console_sock);
	if (!l->waits && l->staged && follow(l, p, e) < 0 && said.kind == ERR_NONE)
		said = *e;
	if (!l->waits && l->staged && said.kind == ERR_NONE && *l->child->second <= 0)
		(void)err_set(&said, ERR_INTERNAL, "the container's process was killed while it was set up (out of memory?)");
	if (l->waits) {
		int rc = accompany_any(l, s, p, &said);

		if (rc < 0 && said.kind == ERR_NONE)
			(void)err_set(&said, ERR_INTERNAL, "the container's process ended silently");
	}
	if (said.kind == ERR_NONE)
		(void)take_console(l, p, &said);
	close_sockets(l);
	if (said.kind == ERR_NONE)
		return 0;
	reap(p);
	container_process_close(p);
	*e = said;
	return -1;
}

static int launch(struct launch *l, const struct container_spec *s, struct container_process *p, struct err *e)
{
	int rc = launch_it(l, s, p, e);

	listener_page_drop(l->child->listener);
	l->child->listener = NULL;
	return rc;
}

int container_cgroup_make(struct arena *a, const struct runtime *rt, const struct container_spec *s, bool *made,
			  struct err *e)
{
	const struct oci_resources *r = s->config->on_linux->resources;
	struct resource_plan plan;
	struct oci_resources mine;

	if (!(s->flags & CONTAINER_CGROUP_EXISTS) && cgroup_exists(&rt->cgroups, s->cgroup))
		return err_set(e, ERR_EXISTS, "cgroup %s exists already", s->cgroup);
	/* A device program is for the host's root; what the kernel's own rules allow is all that others can open. */
	if (r && r->devices.count && geteuid() != 0) {
		mine = *r;
		mine.devices = (struct json_vec){ 0 };
		r = &mine;
	}
	if (r && resources_plan(a, &rt->cgroups, r, &plan, e) < 0)
		return -1;
	if (cgroup_create(&rt->cgroups, s->cgroup, e) < 0)
		return -1;
	*made = !(s->flags & CONTAINER_CGROUP_EXISTS);
	return r ? resources_set(&rt->cgroups, s->cgroup, &plan, e) : 0;
}

/* Only who shares its memory with nobody may change its time namespace. */
static bool has_time_ns(const struct plan *plan)
{
	bool joins = plan->new_time_ns;

	for (size_t i = 0; i < plan->njoins; i++)
		joins |= plan->joins[i].kind == CLONE_TIME;
	return joins;
}

/* Where a child of the child's is told of, in memory that stays shared. */
static int page_map(pid_t **out, struct err *e)
{
	void *page = mmap(NULL, sizeof(pid_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return err_sys(e, errno, "map a page");
	*out = page;
	return 0;
}

static int create(struct runtime *rt, const struct container_spec *s, const struct plan *plan,
		  struct container_process *p, struct err *e)
{
	struct child child = {
		.rt = rt, .plan = plan, .process = &plan->process, .hooks = s->config->hooks, .spec = s,
		.cgroup = s->cgroup, .joins = plan->joins, .njoins = plan->njoins, .join_pidfd = -1,
		.rdt_tasks_fd = s->rdt_tasks_fd,
		.fifo_fd = s->exec_fifo_fd, .rootfd = -1, .old_root_fd = -1, .mask_fd = -1, .sync_fd = -1, .console_sock = -1,
	};
	struct oci_state state = {
		.oci_version = (char *)OCI_VERSION, .id = (char *)s->id, .bundle = (char *)s->bundle,
		.status = (char *)oci_status_name(OCI_CREATING), .annotations = s->config->annotations,
	};
	struct launch l = {
		.rt = rt, .child = &child, .body = child_container, .state = &state,
		.namespaces = plan->staged ? 0 : plan->clone_flags,
		.pid_ns_fd = plan->pid_ns_fd, .unified = s->cgroup, .waits = must_wait(s) || has_time_ns(plan),
		.staged = plan->staged,
	};
	int rc;

	if (!plan->staged)
		return launch(&l, s, p, e);
	if (page_map(&child.second, e) < 0)
		return -1;
	rc = launch(&l, s, p, e);
	(void)munmap(child.second, sizeof(pid_t)); /* ours since a moment */
	return rc;
}

int container_create(struct runtime *rt, struct arena *a, const struct container_spec *s,
		     struct container_process *out, struct err *e)
{
	struct container_process p = { .pidfd = -1, .console_fd = -1, .start_fd = -1 };
	struct plan plan;
	struct err ignored;
	bool made = false;
	int rc;

	if (streams(rt, s->std_in, s->std_out, s->std_err, e) < 0 || plan_make(a, rt, s, &plan, e) < 0)
		return -1;
	rc = s->cgroup ? container_cgroup_make(a, rt, s, &made, e) : 0;
	if (rc == 0)
		rc = create(rt, s, &plan, &p, e);
	plan_close(&plan);
	if (rc == 0) {
		*out = p;
		return 0;
	}
	if (made)
		(void)container_cgroup_remove(&rt->cgroups, s->cgroup, 1000, &ignored);
	return -1;
}

/* --- exec ----------------------------------------------------------------------------------------- */

/* The number, in /proc, of the process behind a pidfd. */
static int pid_of(struct arena *a, const struct runtime *rt, int pidfd, int64_t *pid, struct err *e)
{
	struct str text;

	if (fs_read_file(a, rt->proc_fd, arena_printf(a, "self/fdinfo/%d", pidfd), 4096, &text, e) < 0)
		return -1;
	while (text.p) {
		struct str line = str_cut(&text, '\n');

		if (str_starts(line, "Pid:"))
			return str_to_i64(str_trim((struct str){ line.p + 4, line.len - 4 }), pid, e);
	}
	return err_set(e, ERR_INTERNAL, "no process is behind a pidfd");
}

/* Where the container's first process sits now, in the v2 hierarchy: below the container's cgroup. */
static int own_cgroup(struct arena *a, const struct runtime *rt, const struct exec_spec *s, const char **out,
		      struct err *e)
{
	size_t n = strlen(s->cgroup);
	struct str text;
	int64_t pid;

	if (pid_of(a, rt, s->pidfd, &pid, e) < 0 ||
	    fs_read_file(a, rt->proc_fd, arena_printf(a, "%lld/cgroup", (long long)pid), 65536, &text, e) < 0)
		return -1;
	while (text.p) {
		struct str line = str_cut(&text, '\n');
		char *path;

		if (!str_starts(line, "0::/"))
			continue;
		path = str_dup(a, (struct str){ line.p + 4, line.len - 4 });
		if (strncmp(path, s->cgroup, n) != 0 || path[n] != '/')
			break;
		*out = path;
		return 0;
	}
	return err_set(e, ERR_STATE, "the first process of container %s is not below its cgroup", s->id);
}

/* A container that has a subtree of cgroups of its own (systemd, a container engine) handed its
 * controllers down: the kernel then lets no process into the container's own cgroup. The first
 * process has moved into one below, where another one is welcome too. */
static int launch_beside(struct launch *l, struct arena *a, const struct exec_spec *s, struct container_process *p,
			 struct err *e)
{
	struct runtime *rt = l->rt;
	struct err ignored;
	const char *path;

	if (launch(l, NULL, p, e) == 0)
		return 0;
	if ((e->sys != EBUSY && e->sys != EOPNOTSUPP) || s->exec_cgroup || !s->cgroup ||
	    rt->cgroups.of[CGROUP_UNIFIED] < 0 || own_cgroup(a, rt, s, &path, &ignored) < 0)
		return -1;
	l->unified = l->child->exec_cgroup = path;
	l->child->in_unified = false;
	return launch(l, NULL, p, e);
}

bool container_may_trace(const struct oci_config *config)
{
	const struct oci_capabilities *caps = config->process ? config->process->capabilities : NULL;

	return caps && (strv_has(caps->bounding, "CAP_SYS_PTRACE") || strv_has(caps->permitted, "CAP_SYS_PTRACE"));
}

static int launch_guarded(struct launch *l, struct arena *a, const struct exec_spec *s, struct container_process *p,
			  struct err *e)
{
	int rc;

	if (page_map(&l->child->guard, e) < 0)
		return -1;
	l->child->join_flags |= CLONE_NEWPID;
	l->pid_ns_fd = -1;
	l->waits = l->guarded = true;
	rc = launch_beside(l, a, s, p, e);
	(void)munmap(l->child->guard, sizeof(pid_t)); /* ours since a moment */
	return rc;
}

int container_exec(struct runtime *rt, struct arena *a, const struct exec_spec *s,
		   struct container_process *out, struct err *e)
{
	bool traced = s->flags & CONTAINER_TRACED || container_may_trace(s->config), apart = false;
	struct container_process p = { .pidfd = -1, .console_fd = -1, .start_fd = -1 };
	const struct oci_linux *l = s->config->on_linux;
	struct plan_process process;
	struct child child = {
		.rt = rt, .process = &process, .cgroup = s->cgroup, .exec_cgroup = s->exec_cgroup,
		.cgroups = s->cgroups, .ncgroups = s->ncgroups, .rdt_tasks_fd = s->rdt_tasks_fd,
		.join_pidfd = s->pidfd, .fifo_fd = -1, .rootfd = -1, .old_root_fd = -1, .mask_fd = -1,
		.sync_fd = -1, .console_sock = -1,
	};
	struct oci_state state = {
		.oci_version = (char *)OCI_VERSION, .id = (char *)s->id, .bundle = (char *)s->bundle,
		.status = (char *)oci_status_name(OCI_RUNNING), .annotations = s->config->annotations,
	};
	struct launch go = { .rt = rt, .child = &child, .body = child_exec, .pid_ns_fd = -1, .state = &state,
			     .unified = s->exec_cgroup ? s->exec_cgroup : s->cgroup };

	if (streams(rt, s->std_in, s->std_out, s->std_err, e) < 0 || oci_process_validate(s->process, e) < 0 ||
	    plan_process_make(a, rt, s->process, l, &process, e) < 0)
		return -1;
	if (process.listener_path) {
		int64_t pid = 0;

		if (pid_of(a, rt, s->pidfd, &pid, e) < 0)
			return -1;
		state.pid = (int32_t)pid;
	}
	process.std[0] = s->std_in;
	process.std[1] = s->std_out;
	process.std[2] = s->std_err;
	process.preserve_fds = s->preserve_fds;
	process.parent_death_signal = s->parent_death_signal;
	process.flags = s->flags & ~(unsigned)CONTAINER_WAIT;
	OCI_EACH(oci_namespace, ns, l->namespaces) {
		int kind = plan_namespace_kind(ns->type);

		if (kind == CLONE_NEWUSER) {
			struct idmaps maps;

			plan_idmaps(a, &l->uid_mappings, &l->gid_mappings, &maps);
			plan_in_userns(&maps, &process);
		}
		/* What only its owner's rights may join, and what nobody may who shares its memory. */
		apart |= kind == CLONE_TIME || (kind == CLONE_NEWUSER && geteuid() != 0);
		if (kind == CLONE_NEWPID)
			go.pid_ns_fd = s->pidfd;
		else
			child.join_flags |= kind;
	}
	/* A process that joins a frozen v1 cgroup would stop there for good, and we with it. */
	if (s->cgroup && !(s->flags & CONTAINER_IGNORE_PAUSED) && cgroup_is_frozen(&rt->cgroups, s->cgroup))
		return err_set(e, ERR_STATE, "container %s is paused", s->id);
	if ((apart || (go.pid_ns_fd >= 0 && traced) ? launch_guarded : launch_beside)(&go, a, s, &p, e) < 0)
		return -1;
	*out = p;
	return 0;
}

int container_cgroup_remove(const struct cgroup_layout *l, const char *cgroup, int wait_ms, struct err *e)
{
	/* Nothing in it: the common end. */
	if (cgroup_remove(l, cgroup, 0, e) == 0)
		return 0;
	if (cgroup_kill(l, cgroup, e) < 0)
		return -1;
	return cgroup_remove(l, cgroup, wait_ms, e);
}
