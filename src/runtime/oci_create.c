#include "runtime/oci_making.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/proc.h"
#include "base/str.h"
#include "runtime/criu.h"

#include <limits.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int oci_runtime(struct oci_app *app, struct err *e)
{
	if (app->rt_open)
		return 0;
	if (runtime_open(&app->rt, 0, e) < 0)
		return -1;
	app->rt_open = true;
	return 0;
}

int oci_bundle_load(struct oci_app *app, const char *bundle, struct oci_config *out, struct err *e)
{
	struct str text;
	auto_fd int dir = fd_open(AT_FDCWD, bundle, O_PATH | O_DIRECTORY, e);

	if (dir < 0)
		return err_in(e, "bundle");
	if (fs_read_file(&app->arena, dir, "config.json", OCI_CONFIG_MAX, &text, e) < 0)
		return err_in(e, "bundle %s", bundle);
	if (oci_config_read(&app->arena, text, out, e) < 0)
		return err_in(e, "%s/config.json", bundle);
	return 0;
}

/* Errors of the document's sense name a field; where in the text it stands is added here. */
static int placed(struct oci_app *app, const char *bundle, struct err *e)
{
	auto_fd int dir = -1;
	struct str text;
	struct err ignored;

	dir = fd_open(AT_FDCWD, bundle, O_PATH | O_DIRECTORY, &ignored);
	if (e->kind == ERR_INVALID && dir >= 0 &&
	    fs_read_file(&app->arena, dir, "config.json", OCI_CONFIG_MAX, &text, &ignored) == 0)
		oci_config_place(&app->arena, text, e);
	return -1;
}

int oci_bundle_validate(struct oci_app *app, const char *bundle, const struct oci_config *c, struct err *e)
{
	return oci_config_validate(c, e) < 0 ? placed(app, bundle, e) : 0;
}

/* "/a/b", or a path relative to our default. */
static int cgroup_of(struct oci_app *app, const struct oci_config *c, const char *id, const char **out,
		     struct err *e)
{
	const char *path = c->on_linux ? c->on_linux->cgroups_path : NULL;

	if (app->no_cgroup) {
		*out = NULL;
		return 0;
	}
	if (str_is_empty(path))
		path = arena_printf(&app->arena, "/%s", id);
	return cgroup_path_clean(&app->arena, path, out, e);
}

/* Who is not root has a cgroup where the folder above it was delegated to him, and else stays in his own. */
static int cgroup_if_ours(struct oci_app *app, const struct oci_config *c, const char **cgroup, struct err *e)
{
	struct err refused;

	if (geteuid() == 0 || !*cgroup || cgroup_exists(&app->rt.cgroups, *cgroup))
		return 0;
	if (cgroup_create(&app->rt.cgroups, *cgroup, &refused) == 0)
		return cgroup_remove(&app->rt.cgroups, *cgroup, 0, e);
	if (refused.sys != EACCES && refused.sys != EPERM && refused.sys != EROFS) {
		*e = refused;
		return -1;
	}
	if (!str_is_empty(c->on_linux->cgroups_path))
		return err_set(e, ERR_DENIED, "linux.cgroupsPath: %s", refused.msg);
	log_warn("no cgroup is ours to make: linux.resources has no effect");
	*cgroup = NULL;
	return 0;
}

static int write_pid_file(const char *path, pid_t pid, struct err *e)
{
	char text[16];

	if (!path)
		return 0;
	(void)snprintf(text, sizeof(text), "%d", pid);
	return fs_replace(AT_FDCWD, path, text, strlen(text), 0644, 0, e);
}

static int parse(struct oci_app *app, char *const *argv, bool run, struct create_options *o, const char **id,
		 struct err *e)
{
	const struct opt opts[] = {
		{ OPT_STR, 'b', "bundle", &o->bundle, "PATH", "the bundle's folder" },
		{ OPT_STR, 0, "console-socket", &o->console_socket, "PATH", "receives the terminal" },
		{ OPT_STR, 0, "pidfd-socket", &o->pidfd_socket, "PATH", "receives the process's pidfd" },
		{ OPT_STR, 0, "pid-file", &o->pid_file, "PATH", "gets the process's number" },
		{ OPT_FLAG, 0, "no-pivot", &o->no_pivot, NULL, "chroot instead of pivot_root" },
		{ OPT_FLAG, 0, "no-new-keyring", &o->no_new_keyring, NULL, "keeps the session keyring" },
		{ OPT_I64, 0, "preserve-fds", &o->preserve_fds, "N", "fds passed on" },
		{ run ? OPT_FLAG : OPT_END, 'd', "detach", &o->detach, NULL, "does not wait" }, /* the rest is run's */
		{ OPT_FLAG, 0, "keep", &o->keep, NULL, "does not delete at the end" },
		{ OPT_FLAG, 0, "no-subreaper", &o->no_subreaper, NULL, "is no subreaper" },
		{ 0 },
	};
	char **words;

	if (oci_options(app, opts, 0, argv, &words, e) < 0)
		return -1;
	if (strv_len(words) != 1)
		return err_set(e, ERR_INVALID, "%s: exactly one container id is needed", argv[0]);
	if (o->preserve_fds < 0 || o->preserve_fds > 1000)
		return err_set(e, ERR_INVALID, "--preserve-fds: not a number of fds");
	*id = words[0];
	return oci_check_fds(o->preserve_fds, e);
}

/* Sockets that systemd has opened for the service (sd_listen_fds(3)) lie where the preserved fds do. */
static void pass_listen_fds(struct oci_app *app, struct create_options *o, struct oci_process *p)
{
	const char *n = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
	struct err ignored;
	int64_t count, who;

	if (!n || !pid || str_to_i64(str_of(n), &count, &ignored) < 0 || str_to_i64(str_of(pid), &who, &ignored) < 0 ||
	    who != getpid() || count <= 0 || count > 1000)
		return;
	o->preserve_fds += count;
	p->env = strv_append(&app->arena, p->env, arena_printf(&app->arena, "LISTEN_FDS=%lld", (long long)count));
	p->env = strv_append(&app->arena, p->env, "LISTEN_PID=1");
}

int oci_making_save(struct making *m, struct err *e)
{
	struct oci_record *r = &m->record;
	char *created = arena_alloc(&m->app->arena, CLOCK_TEXT_MAX);
	struct err ignored;

	clock_format_rfc3339(clock_wall_ns(), created);
	r->created = created;
	r->pid = m->process.pid;
	if (!m->config.process->terminal)
		r->stdio = criu_descriptors_of(&m->app->arena, "/proc/self", &ignored); /* for a checkpoint to come */
	log_debug("container %s: process %d, cgroup %s", r->id, r->pid, r->cgroup ? r->cgroup : "of its caller");
	if (proc_start_time(r->pid, &r->start_ticks, e) < 0 || oci_record_save(m->app, r, e) < 0 ||
	    write_pid_file(m->o.pid_file, r->pid, e) < 0)
		return -1;
	if (m->process.console_fd >= 0 && m->o.console_socket) {
		if (oci_console_send(m->o.console_socket, m->process.console_fd, e) < 0)
			return -1;
		fd_close(&m->process.console_fd);
	}
	return m->o.pidfd_socket ? oci_fd_send(m->o.pidfd_socket, "pidfd", m->process.pidfd, e) : 0;
}

/* With --systemd-cgroup the scope is there first, and what keeps it goes last. */
static int create_process(struct making *m, struct err *e)
{
	struct oci_app *app = m->app;

	if (app->systemd_cgroup && oci_scope_begin(app, &m->unit, &m->config, &m->holder, e) < 0)
		return -1;
	if (container_create(&app->rt, &app->arena, &m->spec, &m->process, e) < 0)
		return placed(app, m->record.bundle, e);
	return oci_scope_begun(app, &m->unit, &m->config, &m->holder, e);
}

void oci_making_give_up(struct making *m)
{
	bool held = m->holder > 0;
	struct err ignored;

	systemd_holder_end(&m->holder);
	if (m->process.pidfd >= 0) {
		struct proc p = { m->process.pid, m->process.pidfd };

		proc_kill_and_reap(&p);
	}
	if ((held || m->process.pidfd >= 0) && m->spec.cgroup) {
		(void)container_cgroup_remove(&m->app->rt.cgroups, m->spec.cgroup, 2000, &ignored);
		oci_unit_end(&m->record);
	}
	container_process_close(&m->process);
	(void)oci_rdt_remove(&m->record, &ignored);
	(void)oci_record_drop(m->app, m->record.id, &ignored);
}

static int launch(struct making *m, struct err *e)
{
	auto_fd int rdt = -1;

	if (oci_rdt_create(m->app, &m->config, &m->record, &rdt, e) < 0)
		return -1;
	m->spec.rdt_tasks_fd = rdt;
	return create_process(m, e) < 0 ? -1 : oci_making_save(m, e);
}

static int poststart(const struct oci_config *c, const struct oci_record *r, struct err *e)
{
	struct oci_state state = {
		.oci_version = (char *)OCI_VERSION, .id = r->id, .status = (char *)oci_status_name(OCI_RUNNING),
		.pid = r->pid, .bundle = r->bundle, .annotations = r->annotations,
	};

	return c->hooks ? container_hooks_run("poststart", &c->hooks->poststart, NULL, &state, e) : 0;
}

static int check_terminal(const struct making *m, bool foreground, struct err *e)
{
	bool terminal = m->config.process->terminal;

	if (terminal && !m->o.console_socket && !foreground)
		return err_set(e, ERR_INVALID, "cannot allocate tty if it is detached: --console-socket is needed");
	if (!terminal && m->o.console_socket)
		return err_set(e, ERR_INVALID, "--console-socket: process.terminal is false");
	return 0;
}

static bool shares_pids(const struct oci_config *c)
{
	const struct oci_namespace *ns = oci_namespace_find(c, "pid");

	return !ns || !str_is_empty(ns->path);
}

static int find_cgroup(struct making *m, struct err *e)
{
	const struct oci_linux *l = m->config.on_linux;

	if (!m->app->systemd_cgroup)
		return cgroup_of(m->app, &m->config, m->record.id, &m->spec.cgroup, e) < 0 ? -1 :
		       cgroup_if_ours(m->app, &m->config, &m->spec.cgroup, e);
	if (oci_unit_of(m->app, l ? l->cgroups_path : NULL, m->record.id, &m->unit, e) < 0)
		return -1;
	m->spec.cgroup = m->unit.cgroup;
	m->spec.flags |= CONTAINER_CGROUP_EXISTS;
	m->record.unit = (char *)m->unit.name;
	m->record.slice = (char *)m->unit.slice;
	m->record.user_unit = m->unit.user;
	return 0;
}

/* An engine may have made it for us; what somebody else uses or has stopped is none to start in, as with runc. */
static int check_cgroup(struct making *m, struct err *e)
{
	const struct cgroup_layout *l = &m->app->rt.cgroups;
	pid_t *pids;
	size_t n;

	if (!m->spec.cgroup)
		return 0;
	if (cgroup_is_frozen(l, m->spec.cgroup))
		return err_set(e, ERR_STATE, "container's cgroup unexpectedly frozen: %s", m->spec.cgroup);
	if (!cgroup_exists(l, m->spec.cgroup))
		return 0;
	if (cgroup_pids(&m->app->arena, l, m->spec.cgroup, &pids, &n, e) < 0)
		return -1;
	if (n)
		return err_set(e, ERR_STATE, "container's cgroup is not empty: %zu process(es) found in %s", n, m->spec.cgroup);
	m->spec.flags |= CONTAINER_CGROUP_EXISTS;
	return 0;
}

/* Loads, checks, reserves the name and makes the process. */
int oci_making_begin(struct making *m, const char *id, bool foreground, struct err *e)
{
	struct oci_app *app = m->app;
	const char *bundle = m->o.bundle ? m->o.bundle : ".";
	char absolute[PATH_MAX];

	if (!realpath(bundle, absolute))
		return err_sys(e, errno, "bundle %s", bundle);
	m->record = (struct oci_record){ .oci_version = (char *)OCI_VERSION, .id = (char *)id,
					 .bundle = arena_strdup(&app->arena, absolute), .owner = "" };
	if (oci_bundle_load(app, m->record.bundle, &m->config, e) < 0 ||
	    oci_bundle_validate(app, m->record.bundle, &m->config, e) < 0 || oci_annotations_apply(app, &m->config, e) < 0)
		return -1;
	pass_listen_fds(app, &m->o, m->config.process);
	if (check_terminal(m, foreground, e) < 0 || oci_runtime(app, e) < 0)
		return -1;
	m->record.annotations = m->config.annotations;
	m->record.shares_pids = shares_pids(&m->config);
	m->record.has_poststart = m->config.hooks && m->config.hooks->poststart.count;
	m->record.rootfs = m->config.root->path[0] == '/' ? m->config.root->path :
			   path_join(&app->arena, m->record.bundle, m->config.root->path);
	oci_home_set(app, m->record.rootfs, m->config.process);
	m->spec.id = id;
	m->spec.bundle = m->record.bundle;
	m->spec.config = &m->config;
	m->spec.std_in = 0;
	m->spec.std_out = 1;
	m->spec.std_err = 2;
	m->spec.preserve_fds = (unsigned)m->o.preserve_fds;
	m->spec.flags |= (m->o.no_pivot ? CONTAINER_NO_PIVOT : 0) | (m->o.console_socket ? 0 : CONTAINER_PLAIN_LINES) |
			 (m->o.no_new_keyring ? CONTAINER_NO_KEYRING : 0) | app->container_flags;
	if (!m->o.pidfd_socket)
		m->o.pidfd_socket = json_map_get(&m->config.annotations, "run.oci.pidfd_receiver");
	if (find_cgroup(m, e) < 0 || oci_record_reserve(app, id, e) < 0)
		return -1;
	if (check_cgroup(m, e) < 0) {
		struct err ignored;

		(void)oci_record_drop(app, id, &ignored);
		return -1;
	}
	m->record.cgroup = (char *)m->spec.cgroup;
	return 0;
}

static int open_fifo(struct making *m, struct err *e)
{
	const char *path = oci_record_path(m->app, m->record.id, "exec.fifo");

	/* Whatever our umask: the container's process opens it as its own user, by our fd. */
	if (mkfifo(path, 0600) < 0 || chmod(path, 0622) < 0)
		return err_sys(e, errno, "make %s", path);
	return fd_open(AT_FDCWD, path, O_PATH | O_NOFOLLOW, e);
}

int oci_create_command(struct oci_app *app, char *const *argv, struct err *e)
{
	struct making m = MAKING_INIT(app);
	auto_fd int fifo = -1;
	const char *id = NULL;

	if (parse(app, argv, false, &m.o, &id, e) < 0 || oci_making_begin(&m, id, false, e) < 0)
		return -1;
	m.spec.flags |= CONTAINER_WAIT;
	fifo = open_fifo(&m, e);
	m.spec.exec_fifo_fd = fifo;
	if (fifo < 0 || launch(&m, e) < 0) {
		oci_making_give_up(&m);
		return -1;
	}
	container_process_close(&m.process);
	return 0;
}

/* Detached, that was it; else until the container's end, which is then cleared away. */
int oci_making_end(struct making *m, struct err *e)
{
	struct err ignored;
	int code = 0;

	if (!m->o.detach && oci_foreground(&m->process, m->process.console_fd, &code, e) < 0)
		return -1;
	container_process_close(&m->process);
	if (m->o.detach || m->o.keep)
		return code;
	if ((m->spec.cgroup && container_cgroup_remove(&m->app->rt.cgroups, m->spec.cgroup, 2000, &ignored) < 0) ||
	    oci_rdt_remove(&m->record, &ignored) < 0)
		log_warn("%s", ignored.msg);
	oci_unit_end(&m->record);
	oci_poststop(m->app, &m->record);
	(void)oci_record_drop(m->app, m->record.id, &ignored);
	return code;
}

int oci_run_command(struct oci_app *app, char *const *argv, struct err *e)
{
	struct making m = MAKING_INIT(app);
	const char *id = NULL;

	if (parse(app, argv, true, &m.o, &id, e) < 0 || oci_making_begin(&m, id, !m.o.detach, e) < 0)
		return -1;
	if (!m.o.detach && !m.o.no_subreaper)
		(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* orphans are reaped by our end at the latest */
	if (launch(&m, e) < 0 || poststart(&m.config, &m.record, e) < 0) {
		oci_making_give_up(&m);
		return -1;
	}
	return oci_making_end(&m, e);
}

/* Kills the container where a hook fails: it is not what was asked for. */
static int run_poststart(struct oci_app *app, const struct oci_record *r, int pidfd, struct err *e)
{
	struct oci_config c;
	struct err ignored;

	if (!r->has_poststart)
		return 0;
	if (oci_bundle_load(app, r->bundle, &c, e) == 0 && oci_annotations_apply(app, &c, e) == 0 && poststart(&c, r, e) == 0)
		return 0;
	(void)proc_signal(pidfd, SIGKILL, &ignored); /* it may have ended by itself */
	if (r->shares_pids && r->cgroup && oci_runtime(app, &ignored) == 0)
		(void)cgroup_kill(&app->rt.cgroups, r->cgroup, &ignored);
	return -1;
}

/* poststart is after the program's start: its exec closes the other end. */
static void wait_for_exec(int fifo, int pidfd)
{
	struct pollfd either[2] = { { fifo, POLLIN, 0 }, { pidfd, POLLIN, 0 } };

	while (poll(either, 2, -1) < 0 && errno == EINTR)
		;
}

static int check_created(const struct oci_record *r, enum oci_status status, struct err *e)
{
	switch (status) {
	case OCI_CREATED:
		return 0;
	case OCI_STOPPED:
		return err_set(e, ERR_STATE, "cannot start a container that has stopped: %s", r->id);
	case OCI_RUNNING:
		return err_set(e, ERR_STATE, "cannot start an already running container: %s", r->id);
	default:
		return err_set(e, ERR_STATE, "cannot start a container in the %s state: %s", oci_status_name(status), r->id);
	}
}

/* Lets the process that waits in its open of the fifo go on. One that has ended meanwhile will never come. */
static int release(int fifo, int pidfd, const char *id, struct err *e)
{
	struct pollfd either[2] = { { fifo, POLLIN, 0 }, { pidfd, POLLIN, 0 } };
	char byte;

	while (poll(either, 2, -1) < 0)
		if (errno != EINTR)
			return err_sys(e, errno, "wait for container %s", id);
	if (read(fifo, &byte, 1) != 1)
		return err_set(e, ERR_STATE, "container %s ended before its start", id);
	return 0;
}

int oci_start_command(struct oci_app *app, char *const *argv, struct err *e)
{
	auto_fd int pidfd = -1, fifo = -1;
	const char *path, *id = NULL;
	struct oci_record r;

	if (oci_only_id(app, argv, &id, e) < 0 || oci_record_load(app, id, &r, e) < 0 ||
	    check_created(&r, oci_record_status(app, &r, &pidfd), e) < 0)
		return -1;
	path = oci_record_path(app, id, "exec.fifo");
	fifo = fd_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, e);
	if (fifo < 0 || release(fifo, pidfd, id, e) < 0)
		return -1;
	if (unlink(path) < 0)
		return err_sys(e, errno, "remove %s", path);
	if (r.has_poststart)
		wait_for_exec(fifo, pidfd);
	return run_poststart(app, &r, pidfd, e);
}
