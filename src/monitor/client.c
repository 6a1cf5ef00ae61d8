#include "monitor/client.h"

#include "base/clock.h"
#include "base/fs.h"
#include "kernel/cgroup.h"
#include "monitor/ask.h"
#include "monitor/exit_record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BIRTH_FD = 3, BACKLOG = 128 };

/* --- birth ------------------------------------------------------------------------------------------------ */

static int socket_bind(int run_dirfd, int *out, struct err *e)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	auto_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys(e, errno, "socket");
	(void)snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/" MONITOR_SOCKET, run_dirfd);
	if (fs_remove_file(run_dirfd, MONITOR_SOCKET, e) < 0)
		return -1;
	/* The mode that bind() gives to the file, without touching the process's umask. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(fd, BACKLOG) < 0)
		return err_sys(e, errno, "bind " MONITOR_SOCKET);
	*out = fd_take(&fd);
	return 0;
}

static void sysctls_add(struct ask *q, const struct monitor_sysctl *sysctls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		message_add_text(&q->w, TAG_SYSCTL_KEY, sysctls[i].key);
		message_add_text(&q->w, TAG_SYSCTL_VALUE, sysctls[i].value);
	}
}

static size_t sysctls_bytes(const struct monitor_sysctl *sysctls, size_t n)
{
	size_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += strlen(sysctls[i].key) + strlen(sysctls[i].value) + 32;
	return bytes;
}

enum { SETUP_LEAN = BIT(0), SETUP_IN_UNIFIED = BIT(1) }; /* TAG_FLAGS of SETUP */

/* The namespaces that the runtime's command is executed in: ours. */
struct own_ns {
	int mount, others[3];
};

static void own_ns_close(struct own_ns *n)
{
	fd_close(&n->mount);
	for (size_t i = 0; i < ARRAY_SIZE(n->others); i++)
		fd_close(&n->others[i]);
}

static int own_ns_open(struct own_ns *n, struct err *e)
{
	static const char *const others[ARRAY_SIZE(n->others)] = { "/proc/self/ns/net", "/proc/self/ns/ipc",
								   "/proc/self/ns/uts" };

	n->mount = fd_open(AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY, e);
	if (n->mount < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		n->others[i] = fd_open(AT_FDCWD, others[i], O_RDONLY, e);
		if (n->others[i] < 0)
			return -1;
	}
	return 0;
}

static size_t command_bytes(const struct monitor_command *x)
{
	size_t n = x ? strlen(x->path) + strlen(x->root) + strlen(x->dir) : 0;

	for (char *const *arg = x ? x->args : NULL; arg && *arg; arg++)
		n += strlen(*arg) + 16;
	return n;
}

static void command_write(struct ask *q, const struct monitor_command *x, const struct own_ns *own)
{
	message_add_text(&q->w, TAG_HANDLER_PATH, x->path);
	message_add_text(&q->w, TAG_HANDLER_ROOT, x->root);
	message_add_text(&q->w, TAG_HANDLER_DIR, x->dir);
	for (char *const *arg = x->args; arg && *arg; arg++)
		message_add_text(&q->w, TAG_HANDLER_ARG, *arg);
	ask_fd(q, TAG_HANDLER_DIR_FD, x->dir_fd);
	ask_fd(q, TAG_HANDLER_MOUNT_NS_FD, own->mount);
	for (size_t i = 0; i < ARRAY_SIZE(own->others); i++)
		ask_fd(q, TAG_HANDLER_NS_FD, own->others[i]);
}

static void setup_write(struct call *c, struct ask *q, const struct monitor_program *p,
			const struct monitor_pod_spec *s, int listen_fd, bool in_unified)
{
	const struct idmaps *maps = &s->idmaps;

	ask_begin(c, q, MONITOR_OP_SETUP, sizeof(*p->cgroups) + sysctls_bytes(s->sysctls, s->nsysctls) +
		  command_bytes(s->command) +
		  (maps->nuids + maps->ngids) * sizeof(struct idmap));
	if (maps->nuids || maps->ngids) {
		message_add_bytes(&q->w, TAG_UID_MAP,
				  (struct str){ (const char *)maps->uids, maps->nuids * sizeof(struct idmap) });
		message_add_bytes(&q->w, TAG_GID_MAP,
				  (struct str){ (const char *)maps->gids, maps->ngids * sizeof(struct idmap) });
	}
	message_add_text(&q->w, TAG_POD_ID, s->pod_id);
	message_add_number(&q->w, TAG_FLAGS, (p->lean_mount_ns_fd >= 0 ? SETUP_LEAN : 0u) |
						     (in_unified ? SETUP_IN_UNIFIED : 0u));
	message_add_number(&q->w, TAG_NAMESPACES, s->namespaces);
	message_add_text(&q->w, TAG_HOSTNAME, s->hostname ? s->hostname : "");
	message_add_text(&q->w, TAG_CGROUP, s->cgroup ? s->cgroup : "");
	message_add_number(&q->w, TAG_OOM_SCORE_ADJ, (uint64_t)s->oom_score_adj);
	sysctls_add(q, s->sysctls, s->nsysctls);
	ask_fd(q, TAG_LISTEN_FD, listen_fd);
	ask_fd(q, TAG_STATE_DIR_FD, s->state_dirfd);
	message_add_bytes(&q->w, TAG_CGROUP_LAYOUT,
			  (struct str){ (const char *)p->cgroups, sizeof(*p->cgroups) });
	for (size_t i = 0; i < p->cgroups->nh; i++)
		ask_fd(q, TAG_CGROUP_ROOT_FD, p->cgroups->h[i].root_fd);
}

static int program_spawn(const struct monitor_program *p, const char *pod_id, int birth_fd, int cgroup_fd,
			 struct proc *out, struct err *e)
{
	struct proc_spec spec = PROC_SPEC_INIT;
	char *argv[] = { "knarr-pod", (char *)pod_id, NULL };

	spec.exec_fd = p->exec_fd;
	spec.argv = argv;
	spec.mount_ns_fd = p->lean_mount_ns_fd;
	spec.cgroup_fd = cgroup_fd;
	spec.flags = PROC_NEW_SESSION | (p->lean_mount_ns_fd < 0 ? PROC_NEW_MOUNT_NS : 0);
	spec.fds[0].from = birth_fd;
	spec.fds[0].to = BIRTH_FD;
	spec.nfds = 1;
	return proc_spawn(&spec, out, e);
}

static int started_read(struct answer *a, const struct proc *proc, struct monitor_started *out, struct err *e)
{
	uint64_t ticks;

	if (proc_start_time(proc->pid, &ticks, e) < 0)
		return -1;
	*out = (struct monitor_started){
		.monitor = { .pid = proc->pid,
			     .start_ticks = ticks,
			     .protocol = (unsigned)message_number(&a->m, TAG_PROTOCOL_MOST, 1) },
		.pidfd = proc->pidfd,
		.netns_fd = answer_take_fd(a, TAG_NET_FD),
		.ipcns_fd = answer_take_fd(a, TAG_IPC_FD),
		.utsns_fd = answer_take_fd(a, TAG_UTS_FD),
		.pidns_fd = answer_take_fd(a, TAG_PIDNS_FD),
		.userns_fd = answer_take_fd(a, TAG_USERNS_FD),
		.init_pid = (pid_t)message_number(&a->m, TAG_INIT_PID, 0),
	};
	return 0;
}

static int birth(struct call *c, const struct monitor_program *p, const struct monitor_pod_spec *s,
		 int listen_fd, struct monitor_birth *out, struct err *e)
{
	AUTO(own_ns_close) struct own_ns own = { -1, { -1, -1, -1 } };
	auto_fd int mine = -1, its = -1, cgroup_fd = -1;
	struct ask q;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "socketpair");
	mine = pair[0];
	its = pair[1];
	/* To be born in a cgroup costs nothing; a move within cgroup2 waits for an RCU grace period (7 ms
	 * and more on an idle machine). */
	if (s->cgroup && p->cgroups->of[CGROUP_UNIFIED] >= 0 &&
	    cgroup_open_unified(p->cgroups, s->cgroup, &cgroup_fd, e) < 0)
		return -1;
	setup_write(c, &q, p, s, listen_fd, cgroup_fd >= 0);
	if (s->command) {
		if (own_ns_open(&own, e) < 0)
			return -1;
		command_write(&q, s->command, &own);
	}
	if (ask_send(c, mine, &q, e) < 0 || program_spawn(p, s->pod_id, its, cgroup_fd, &out->proc, e) < 0)
		return -1;
	out->fd = fd_take(&mine);
	return 0;
}

void monitor_birth_end(struct monitor_birth *b)
{
	fd_close(&b->fd);
	if (b->proc.pidfd < 0)
		return;
	proc_kill_and_reap(&b->proc);
	fd_close(&b->proc.pidfd);
}

int monitor_begin(struct call *c, const struct monitor_program *p, const struct monitor_pod_spec *s,
		  struct monitor_birth *out, struct err *e)
{
	auto_fd int listen_fd = -1;
	struct err ignored;

	if (s->cgroup && !cgroup_exists(p->cgroups, s->cgroup) && cgroup_create(p->cgroups, s->cgroup, e) < 0)
		return err_in(e, "pod %s", s->pod_id);
	if (socket_bind(s->run_dirfd, &listen_fd, e) < 0)
		return err_in(e, "pod %s", s->pod_id);
	if (birth(c, p, s, listen_fd, out, e) < 0) {
		(void)fs_remove_file(s->run_dirfd, MONITOR_SOCKET, &ignored); /* the first error counts */
		return err_in(e, "start knarr-pod of pod %s", s->pod_id);
	}
	return 0;
}

int monitor_born(struct call *c, struct monitor_birth *b, struct monitor_started *out, struct err *e)
{
	auto_answer a = { .nfds = 0 };

	if (ask_receive(c, b->fd, &a, e) < 0 || started_read(&a, &b->proc, out, e) < 0) {
		monitor_birth_end(b);
		return err_in(e, "start knarr-pod");
	}
	fd_close(&b->fd);
	b->proc.pidfd = -1;
	return 0;
}

int monitor_start(struct call *c, const struct monitor_program *p, const struct monitor_pod_spec *s,
		  struct monitor_started *out, struct err *e)
{
	struct monitor_birth b = MONITOR_BIRTH_NONE;
	struct err ignored;

	if (monitor_begin(c, p, s, &b, e) < 0)
		return -1;
	if (monitor_born(c, &b, out, e) == 0)
		return 0;
	(void)fs_remove_file(s->run_dirfd, MONITOR_SOCKET, &ignored); /* the first error counts */
	return err_in(e, "pod %s", s->pod_id);
}

int monitor_find(struct call *c, int run_dirfd, struct monitor *out, int *pidfd, struct err *e)
{
	auto_answer a = { .nfds = 0 };
	auto_fd int fd = -1;
	struct monitor m;
	uint64_t ticks;
	struct ask q;

	ask_begin(c, &q, MONITOR_OP_HELLO, 0);
	if (ask_once(c, run_dirfd, &q, &a, e) < 0)
		return -1;
	m.pid = (pid_t)message_number(&a.m, TAG_PID, 0);
	m.start_ticks = message_number(&a.m, TAG_START_TICKS, 0);
	m.protocol = (unsigned)message_number(&a.m, TAG_PROTOCOL_MOST, 1);
	if (m.pid <= 0)
		return err_set(e, ERR_INTERNAL, "knarr-pod does not say who it is");
	fd = proc_pidfd_open(m.pid, e);
	if (fd < 0 || proc_start_time(m.pid, &ticks, e) < 0)
		return err_kind_to(e, ERR_UNAVAILABLE);
	if (ticks != m.start_ticks)
		return err_set(e, ERR_UNAVAILABLE, "knarr-pod %d has ended", m.pid);
	*out = m;
	*pidfd = fd_take(&fd);
	return 0;
}

int monitor_sysctls(struct call *c, int run_dirfd, const struct monitor_sysctl *sysctls, size_t n,
		    struct err *e)
{
	auto_answer a = { .nfds = 0 };
	struct ask q;

	ask_begin(c, &q, MONITOR_OP_SYSCTLS, sysctls_bytes(sysctls, n));
	sysctls_add(&q, sysctls, n);
	return ask_once(c, run_dirfd, &q, &a, e);
}

/* --- containers ---------------------------------------------------------------------------------------------- */

static struct monitor_process process_read(const struct message *m)
{
	return (struct monitor_process){
		.pid = (pid_t)message_number(m, TAG_PID, 0),
		.start_ticks = message_number(m, TAG_START_TICKS, 0),
		.started_wall_ns = (int64_t)message_number(m, TAG_STARTED_NS, 0),
	};
}

static struct monitor_exit exit_read(struct arena *a, const struct message *m)
{
	return (struct monitor_exit){
		.code = (int)message_number(m, TAG_EXIT_CODE, 255),
		.signal = (int)message_number(m, TAG_EXIT_SIGNAL, 0),
		.oom_killed = message_number(m, TAG_OOM_KILLED, 0) != 0,
		.started_wall_ns = (int64_t)message_number(m, TAG_STARTED_NS, 0),
		.finished_wall_ns = (int64_t)message_number(m, TAG_FINISHED_NS, 0),
		.reason = arena_strdup(a, message_text(m, TAG_REASON, "")),
		.message = arena_strdup(a, message_text(m, TAG_MESSAGE, "")),
	};
}

enum { START_STDIN = BIT(0), START_STDIN_ONCE = BIT(1), START_TTY = BIT(2) }; /* TAG_FLAGS of START */

int monitor_container_start(struct call *c, int run_dirfd, const struct monitor_start_request *r,
			    struct monitor_process *out, struct err *e)
{
	auto_answer a = { .nfds = 0 };
	struct ask q;

	ask_begin(c, &q, MONITOR_OP_START, strlen(r->container_id) + strlen(r->bundle_path));
	message_add_text(&q.w, TAG_CONTAINER_ID, r->container_id);
	message_add_text(&q.w, TAG_BUNDLE, r->bundle_path);
	message_add_number(&q.w, TAG_FLAGS, (r->stdin_open ? START_STDIN : 0u) |
						    (r->stdin_once ? START_STDIN_ONCE : 0u) |
						    (r->tty ? START_TTY : 0u));
	ask_fd(&q, TAG_CONFIG_FD, r->config_fd);
	ask_fd(&q, TAG_ROOT_FD, r->root_fd);
	ask_fd(&q, TAG_LOG_FD, r->log_fd);
	for (size_t i = 0; i < r->nmount_fds; i++) {
		message_add_number(&q.w, TAG_MOUNT, r->mount_fds[i].mount);
		ask_fd(&q, TAG_MOUNT_FD, r->mount_fds[i].fd);
	}
	if (ask_once(c, run_dirfd, &q, &a, e) < 0)
		return -1;
	*out = process_read(&a.m);
	return 0;
}

/* A question that names a container and needs no answer but "done". */
static int container_ask(struct call *c, int run_dirfd, struct ask *q, struct err *e)
{
	auto_answer a = { .nfds = 0 };

	return ask_once(c, run_dirfd, q, &a, e);
}

static void container_ask_begin(struct call *c, struct ask *q, unsigned op, const char *container_id)
{
	ask_begin(c, q, op, strlen(container_id));
	message_add_text(&q->w, TAG_CONTAINER_ID, container_id);
}

int monitor_container_kill(struct call *c, int run_dirfd, const char *container_id, int signal,
			   enum monitor_kill what, struct err *e)
{
	struct ask q;

	container_ask_begin(c, &q, MONITOR_OP_KILL, container_id);
	message_add_number(&q.w, TAG_SIGNAL, (uint64_t)signal);
	message_add_number(&q.w, TAG_KILL_WHAT, what);
	return container_ask(c, run_dirfd, &q, e);
}

int monitor_container_reopen_log(struct call *c, int run_dirfd, const char *container_id, int log_fd,
				 struct err *e)
{
	struct ask q;

	container_ask_begin(c, &q, MONITOR_OP_REOPEN_LOG, container_id);
	ask_fd(&q, TAG_LOG_FD, log_fd);
	return container_ask(c, run_dirfd, &q, e);
}

int monitor_container_forget(struct call *c, int run_dirfd, const char *container_id, struct err *e)
{
	struct ask q;

	container_ask_begin(c, &q, MONITOR_OP_FORGET, container_id);
	return container_ask(c, run_dirfd, &q, e);
}

/* Listed containers, linked until their number is known. */
struct listed {
	struct monitor_container container;
	struct listed *next;
};

int monitor_list(struct call *c, int run_dirfd, struct monitor_container **out, size_t *n, struct err *e)
{
	struct listed *first = NULL, **last = &first;
	auto_fd int fd = -1;
	size_t count = 0;
	struct ask q;

	ask_begin(c, &q, MONITOR_OP_LIST, 0);
	if (ask_connect(c, run_dirfd, &fd, e) < 0 || ask_send(c, fd, &q, e) < 0)
		return -1;
	for (;;) {
		auto_answer a = { .nfds = 0 };
		struct listed *one;

		if (ask_receive(c, fd, &a, e) < 0)
			return -1;
		if (!(a.m.flags & MESSAGE_MORE))
			break;
		one = arena_new0(&c->arena, struct listed);
		one->container = (struct monitor_container){
			.id = arena_strdup(&c->arena, message_text(&a.m, TAG_CONTAINER_ID, "")),
			.state = message_number(&a.m, TAG_STATE, 0) == MONITOR_EXITED ? MONITOR_EXITED
										      : MONITOR_RUNNING,
			.process = process_read(&a.m),
			.exit = exit_read(&c->arena, &a.m),
		};
		*last = one;
		last = &one->next;
		count++;
	}
	*out = arena_newn0(&c->arena, struct monitor_container, MAX(count, (size_t)1));
	*n = 0;
	for (struct listed *one = first; one; one = one->next)
		(*out)[(*n)++] = one->container;
	return 0;
}

int monitor_exit_read(struct arena *a, int state_dirfd, const char *container_id, struct monitor_exit *out,
		      struct err *e)
{
	struct exit_record r;

	if (exit_record_read(a, state_dirfd, container_id, &r, e) < 0)
		return -1;
	*out = (struct monitor_exit){
		.code = r.code,
		.signal = r.signal,
		.oom_killed = r.oom_killed,
		.started_wall_ns = r.started_wall_ns,
		.finished_wall_ns = r.finished_wall_ns,
		.reason = "",
		.message = "",
	};
	return 0;
}

/* --- exec ------------------------------------------------------------------------------------------------------ */

static int output_read(struct call *c, struct answer *a, unsigned fd_tag, unsigned size_tag, unsigned bytes_tag,
		       struct str *out, struct err *e)
{
	size_t n = (size_t)message_number(&a->m, size_tag, 0), at = 0;
	auto_fd int fd = answer_take_fd(a, fd_tag);
	char *bytes;

	if (fd < 0) {
		struct str small = message_bytes(&a->m, bytes_tag);

		*out = (struct str){ arena_strndup(&c->arena, small.p, small.len), small.len };
		return 0;
	}
	if (n > (size_t)INT32_MAX)
		return err_set(e, ERR_INTERNAL, "knarr-pod passes %zu bytes of output", n);
	bytes = arena_alloc(&c->arena, n + 1);
	while (at < n) {
		ssize_t got = pread(fd, bytes + at, n - at, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return err_sys(e, got < 0 ? errno : EIO, "read the output of an exec");
		at += (size_t)got;
	}
	bytes[n] = '\0';
	*out = (struct str){ bytes, n };
	return 0;
}

int monitor_exec_sync(struct call *c, int run_dirfd, const struct monitor_exec_request *r,
		      struct monitor_exec_result *out, struct err *e)
{
	auto_answer a = { .nfds = 0 };
	struct monitor_exec_result result;
	size_t extra = strlen(r->container_id);
	struct ask q;

	for (char *const *arg = r->argv; *arg; arg++)
		extra += strlen(*arg) + 16;
	ask_begin(c, &q, MONITOR_OP_EXEC_SYNC, extra);
	message_add_text(&q.w, TAG_CONTAINER_ID, r->container_id);
	message_add_number(&q.w, TAG_TIMEOUT_NS, (uint64_t)MAX(r->timeout_ns, (int64_t)0));
	message_add_number(&q.w, TAG_OUTPUT_MAX, r->output_max_bytes);
	for (char *const *arg = r->argv; *arg; arg++)
		message_add_text(&q.w, TAG_ARG, *arg);
	if (ask_once(c, run_dirfd, &q, &a, e) < 0)
		return -1;
	result.exit_code = (int)message_number(&a.m, TAG_EXIT_CODE, 255);
	result.timed_out = message_number(&a.m, TAG_TIMED_OUT, 0) != 0;
	result.cut = message_number(&a.m, TAG_CUT, 0) != 0;
	if (output_read(c, &a, TAG_OUTPUT_FD, TAG_OUT_BYTES, TAG_OUTPUT, &result.out, e) < 0 ||
	    output_read(c, &a, TAG_ERROUT_FD, TAG_ERR_BYTES, TAG_ERROUT, &result.err, e) < 0)
		return -1;
	*out = result;
	return 0;
}

/* --- events and end ----------------------------------------------------------------------------------------------- */

int monitor_subscribe(struct call *c, int run_dirfd, int *event_fd, struct err *e)
{
	auto_answer a = { .nfds = 0 };
	auto_fd int fd = -1;
	struct ask q;

	ask_begin(c, &q, MONITOR_OP_SUBSCRIBE, 0);
	if (ask_connect(c, run_dirfd, &fd, e) < 0 || ask_send(c, fd, &q, e) < 0 ||
	    ask_receive(c, fd, &a, e) < 0)
		return -1;
	*event_fd = fd_take(&fd);
	return 0;
}

int monitor_event_read(struct arena *a, int event_fd, struct monitor_event *out, struct err *e)
{
	char packet[4096];
	struct message m;
	ssize_t n;

	for (;;) {
		n = fd_recv_msg(event_fd, packet, sizeof(packet), NULL, NULL, e);
		if (n < 0 && e->sys == EAGAIN)
			return 0;
		if (n <= 0)
			return err_set(e, ERR_UNAVAILABLE, "knarr-pod has ended");
		if (message_parse((struct str){ packet, (size_t)n }, &m, e) < 0)
			return err_in(e, "knarr-pod's event");
		if (m.op == MONITOR_OP_EVENT && !(m.flags & MESSAGE_ANSWER))
			break; /* else something that a newer monitor tells */
	}
	*out = (struct monitor_event){
		.container_id = arena_strdup(a, message_text(&m, TAG_CONTAINER_ID, "")),
		.exit = exit_read(a, &m),
	};
	return 1;
}

int monitor_shutdown(struct call *c, int run_dirfd, struct err *e)
{
	auto_answer a = { .nfds = 0 };
	auto_fd int fd = -1;
	struct err end;
	struct ask q;

	ask_begin(c, &q, MONITOR_OP_SHUTDOWN, 0);
	if (ask_connect(c, run_dirfd, &fd, e) < 0 || ask_send(c, fd, &q, e) < 0 ||
	    ask_receive(c, fd, &a, e) < 0)
		return e->kind == ERR_UNAVAILABLE ? 0 : -1;
	(void)ask_receive(c, fd, &a, &end); /* the connection ends with the process */
	return 0;
}

static bool is_of_pod(const char *pid, const char *pod_id)
{
	auto_arena a = { 0 };
	struct str text;
	struct err e;

	if (fs_read_file(&a, AT_FDCWD, arena_printf(&a, "/proc/%s/cmdline", pid), 4096, &text, &e) < 0)
		return false;
	return str_eqz(str_cut(&text, '\0'), "knarr-pod") && text.p && str_eqz(str_cut(&text, '\0'), pod_id);
}

int monitor_seek(const char *pod_id)
{
	DIR *proc = opendir("/proc");
	struct dirent *f;
	int found = -1;

	while (proc && found < 0 && (f = readdir(proc))) {
		struct err e;
		int64_t pid;

		if (*f->d_name < '1' || *f->d_name > '9' || !is_of_pod(f->d_name, pod_id) ||
		    str_to_i64(str_of(f->d_name), &pid, &e) < 0)
			continue;
		found = proc_pidfd_open((pid_t)pid, &e);
		if (found >= 0 && !is_of_pod(f->d_name, pod_id)) /* the pid may have become another's */
			fd_close(&found);
	}
	if (proc)
		(void)closedir(proc);
	return found;
}
