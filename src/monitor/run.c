/* All that knarr-pod asks of the OCI runtime library. */
#include "monitor/state.h"

#include "base/arena.h"
#include "runtime/container.h"
#include "runtime/systemd.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REMOVE_WAIT_MS = 50, NS_MAX = 8 };

static int config_load(struct arena *a, int fd, struct oci_config *out, struct err *e)
{
	struct stat st;
	char *text;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "config.json");
	if (st.st_size > OCI_CONFIG_MAX)
		return err_set(e, ERR_EXHAUSTED, "config.json has %lld bytes", (long long)st.st_size);
	text = arena_alloc(a, (size_t)st.st_size + 1);
	n = pread(fd, text, (size_t)st.st_size, 0);
	if (n < 0)
		return err_sys(e, errno, "read config.json");
	text[n] = '\0';
	if (oci_config_read(a, (struct str){ text, (size_t)n }, out, e) < 0)
		return err_in(e, "config.json");
	return 0;
}

static int ns_kind(const char *type)
{
	static const struct {
		const char *type;
		int kind;
	} all[] = { { "network", CLONE_NEWNET }, { "ipc", CLONE_NEWIPC }, { "uts", CLONE_NEWUTS },
		    { "pid", CLONE_NEWPID }, { "user", CLONE_NEWUSER } };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (streq(all[i].type, type))
			return all[i].kind;
	return 0;
}

static bool is_namespace(int fd, const char *path)
{
	struct stat a, b;

	return fd >= 0 && fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

/* A namespace that config.json names by path is the pod's: this process is in it already, or (the
 * shared PID namespace) holds its fd. The PID namespace of another container, and what is not of
 * this pod, keeps its path. */
static size_t pod_namespaces(const struct pod *p, const struct oci_config *config, struct container_ns *out)
{
	size_t n = 0;

	OCI_EACH(oci_namespace, ns, config->on_linux->namespaces) {
		int kind = ns_kind(ns->type);

		if (str_is_empty(ns->path) || !kind || n == NS_MAX)
			continue;
		if (kind == CLONE_NEWUSER && is_namespace(p->pod_userns, ns->path))
			out[n++] = (struct container_ns){ kind, p->pod_userns, p->maps };
		else if (kind == CLONE_NEWPID && is_namespace(p->pod_pidns, ns->path))
			out[n++] = (struct container_ns){ kind, p->pod_pidns, { 0 } };
		else if (kind != CLONE_NEWPID && kind != CLONE_NEWUSER)
			out[n++] = (struct container_ns){ kind, CONTAINER_NS_MINE, { 0 } };
	}
	return n;
}

/* *held: it is a scope that knarrd has started, with a holder in it for now. */
static int cgroup_take(struct arena *a, struct container *c, const struct oci_config *config, bool *held,
		       struct err *e)
{
	const char *path;

	if (!config->on_linux || str_is_empty(config->on_linux->cgroups_path))
		return err_set(e, ERR_INVALID, "config.json of container %s without linux.cgroupsPath", c->id);
	if (systemd_is_unit_path(config->on_linux->cgroups_path)) {
		struct systemd_unit u;

		if (systemd_unit_parse(a, config->on_linux->cgroups_path, c->id, 0, &u, e) < 0)
			return -1;
		path = u.cgroup;
		*held = true;
	} else if (cgroup_path_clean(a, config->on_linux->cgroups_path, &path, e) < 0) {
		return -1;
	}
	if (strlen(path) >= sizeof(c->cgroup))
		return err_set(e, ERR_INVALID, "the cgroup path of container %s has %zu bytes", c->id,
			       strlen(path));
	memcpy(c->cgroup, path, strlen(path) + 1);
	return 0;
}

static bool is_tracer(const struct container *c, const struct container *but)
{
	return c != but && c->traces && c->state == CONTAINER_RUNNING && c->cgroup[0];
}

static void tracers_thaw(struct pod *p, const struct container *but)
{
	struct err ignored;

	for (size_t i = 0; p->traced && i < p->containers_top; i++)
		if (is_tracer(&p->containers[i], but))
			(void)cgroup_thaw(&p->runtime.cgroups, p->containers[i].cgroup, &ignored); /* it may have ended */
}

/* A container's first process enters a shared PID namespace with all that we have (it has its mounts to
 * make there): nobody who may trace it runs meanwhile. */
static int tracers_freeze(struct pod *p, const struct container *but, struct err *e)
{
	for (size_t i = 0; p->traced && i < p->containers_top; i++) {
		if (!is_tracer(&p->containers[i], but) ||
		    cgroup_freeze(&p->runtime.cgroups, p->containers[i].cgroup, e) == 0 || e->kind == ERR_NOT_FOUND)
			continue;
		tracers_thaw(p, but);
		return err_in(e, "hold container %s, which may trace", p->containers[i].id);
	}
	return 0;
}

static int create(struct pod *p, struct arena *a, struct container *c, const struct run_start *s,
		  struct container_process *out, struct err *e)
{
	struct container_spec spec = CONTAINER_SPEC_INIT;
	struct container_mount_fd mounts[FD_PASS_MAX];
	struct container_ns ns[NS_MAX];
	const struct oci_namespace *pid;
	struct oci_config config = { 0 };
	bool held = false;
	int rc;

	if (config_load(a, c->config_fd, &config, e) < 0 || oci_config_validate(&config, e) < 0 ||
	    cgroup_take(a, c, &config, &held, e) < 0)
		return -1;
	if (held) {
		spec.flags |= CONTAINER_CGROUP_EXISTS;
		systemd_pids_make_room(config.on_linux->resources);
	}
	if (s->tty != config.process->terminal)
		return err_set(e, ERR_INVALID, "container %s: the request and config.json differ on the terminal",
			       c->id);
	pid = oci_namespace_find(&config, "pid");
	c->own_pid_ns = pid && str_is_empty(pid->path);
	c->traces = container_may_trace(&config);
	p->traced |= c->traces;
	for (size_t i = 0; i < s->nmounts; i++)
		mounts[i] = (struct container_mount_fd){ s->mounts[i].mount, s->mounts[i].fd };
	spec.id = c->id;
	spec.bundle = s->bundle;
	spec.config = &config;
	spec.cgroup = c->cgroup;
	spec.root_fd = s->root_fd;
	spec.ns = ns;
	spec.nns = pod_namespaces(p, &config, ns);
	spec.mount_fds = mounts;
	spec.nmount_fds = s->nmounts;
	spec.std_in = s->files.in;
	spec.std_out = s->files.out;
	spec.std_err = s->files.err;
	spec.parent_death_signal = SIGKILL;
	if (!pid || c->own_pid_ns)
		return container_create(&p->runtime, a, &spec, out, e);
	if (tracers_freeze(p, c, e) < 0)
		return -1;
	rc = container_create(&p->runtime, a, &spec, out, e);
	tracers_thaw(p, c);
	return rc;
}

int run_describe(struct container *c, struct err *e)
{
	const struct oci_namespace *pid;
	struct oci_config config = { 0 };
	auto_arena a = { 0 };
	bool held = false;

	if (config_load(&a, c->config_fd, &config, e) < 0 || oci_config_validate(&config, e) < 0 ||
	    cgroup_take(&a, c, &config, &held, e) < 0)
		return -1;
	if (!config.process || c->tty != config.process->terminal)
		return err_set(e, ERR_INVALID, "container %s: the request and config.json differ on the terminal", c->id);
	pid = oci_namespace_find(&config, "pid");
	c->own_pid_ns = pid && str_is_empty(pid->path);
	return 0;
}

int run_container(struct pod *p, struct container *c, const struct run_start *s, int *console,
		  struct err *e)
{
	struct container_process process;
	auto_arena a = { 0 };

	if (create(p, &a, c, s, &process, e) < 0) {
		c->cgroup[0] = '\0'; /* the runtime left nothing */
		return -1;
	}
	c->pid = process.pid;
	c->pidfd = process.pidfd;
	*console = process.console_fd;
	return 0;
}

void run_cgroup_slot(const struct container *c, unsigned slot, char *out, size_t max)
{
	(void)snprintf(out, max, "%s/knarr-exec-%u", c->cgroup, slot);
}

static bool has_term(char *const *env)
{
	for (; env && *env; env++)
		if (starts_with(*env, "TERM="))
			return true;
	return false;
}

/* The container's own process, with another command. */
static void exec_process(struct arena *a, const struct oci_process *own, const struct run_exec *r,
			 struct oci_process *out)
{
	*out = *own;
	out->args = (char **)r->argv;
	out->terminal = r->tty;
	out->console_size = NULL;
	if (!r->tty)
		return;
	if (r->width && r->height) {
		out->console_size = arena_new0(a, struct oci_console_size);
		out->console_size->width = r->width;
		out->console_size->height = r->height;
	}
	if (!has_term(out->env))
		out->env = strv_append(a, out->env, "TERM=xterm"); /* what the other runtimes of a node say */
}

int run_exec_json(struct container *c, const struct run_exec *r, struct buf *out, struct err *e)
{
	struct oci_config config = { 0 };
	struct oci_process what;
	auto_arena a = { 0 };

	if (config_load(&a, c->config_fd, &config, e) < 0)
		return -1;
	if (!config.process)
		return err_set(e, ERR_INVALID, "config.json of container %s without process", c->id);
	exec_process(&a, config.process, r, &what);
	return oci_process_write(out, &what, e);
}

int run_exec(struct pod *p, struct container *c, const struct run_exec *r, pid_t *pid, int *console, struct err *e)
{
	char cgroup[CGROUP_TEXT_MAX + 32];
	struct exec_spec spec = EXEC_SPEC_INIT;
	struct container_process process;
	struct oci_config config = { 0 };
	struct oci_process what;
	auto_arena a = { 0 };

	if (config_load(&a, c->config_fd, &config, e) < 0)
		return -1;
	if (!config.process)
		return err_set(e, ERR_INVALID, "config.json of container %s without process", c->id);
	exec_process(&a, config.process, r, &what);
	run_cgroup_slot(c, r->slot, cgroup, sizeof(cgroup));
	spec.id = c->id;
	spec.config = &config;
	spec.process = &what;
	spec.pidfd = c->pidfd;
	spec.cgroup = c->cgroup;
	spec.exec_cgroup = cgroup;
	spec.std_in = r->files.in;
	spec.std_out = r->files.out;
	spec.std_err = r->files.err;
	spec.parent_death_signal = SIGKILL;
	spec.flags = p->traced ? CONTAINER_TRACED : 0;
	if (container_exec(&p->runtime, &a, &spec, &process, e) < 0)
		return -1;
	*pid = process.pid;
	fd_close(&process.pidfd); /* our child: its number is its own until we reap it */
	*console = process.console_fd;
	return 0;
}

void run_forget(struct pod *p, struct container *c)
{
	struct err ignored;

	if (!c->cgroup[0])
		return;
	/* What does not die in time is tried again when the container is forgotten. */
	if (container_cgroup_remove(&p->runtime.cgroups, c->cgroup, REMOVE_WAIT_MS, &ignored) == 0)
		c->cgroup[0] = '\0';
}
