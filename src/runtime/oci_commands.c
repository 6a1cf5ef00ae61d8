#include "runtime/oci.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/opt.h"
#include "base/proc.h"
#include "base/str.h"
#include "runtime/resources.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static int one_id(char *const *words, const char *command, const char **id, struct err *e)
{
	if (strv_len(words) != 1)
		return err_set(e, ERR_INVALID, "%s: exactly one container id is needed", command);
	*id = words[0];
	return 0;
}

/* --- state, list, ps ------------------------------------------------------------------------------ */

struct oci_report {             /* runc's own form of the state */
	char *oci_version, *id;
	int32_t pid;
	char *status, *bundle, *rootfs, *created;
	struct json_map annotations;
	char *owner;
};
static const struct json_field report_fields[] = {
	{ "ociVersion", JSON_STR, offsetof(struct oci_report, oci_version) },
	{ "id", JSON_STR, offsetof(struct oci_report, id) },
	{ "pid", JSON_I32, offsetof(struct oci_report, pid), JSON_KEEP_ZERO },
	{ "status", JSON_STR, offsetof(struct oci_report, status) },
	{ "bundle", JSON_STR, offsetof(struct oci_report, bundle) },
	{ "rootfs", JSON_STR, offsetof(struct oci_report, rootfs) },
	{ "created", JSON_STR, offsetof(struct oci_report, created) },
	{ "annotations", JSON_MAP, offsetof(struct oci_report, annotations) },
	{ "owner", JSON_STR, offsetof(struct oci_report, owner), JSON_KEEP_ZERO },
	{ 0 },
};

static struct oci_report report(struct oci_app *app, const struct oci_record *r)
{
	auto_fd int pidfd = -1;
	enum oci_status status = oci_record_status(app, r, &pidfd);

	return (struct oci_report){
		.oci_version = (char *)OCI_VERSION, .id = r->id, .pid = status == OCI_STOPPED ? 0 : r->pid,
		.status = (char *)oci_status_name(status), .bundle = r->bundle, .rootfs = r->rootfs,
		.created = r->created, .annotations = r->annotations, .owner = r->owner ? r->owner : "",
	};
}

int oci_state_command(struct oci_app *app, char *const *argv, struct err *e)
{
	auto_buf b = BUF(1 << 20);
	struct oci_record r;
	struct oci_report out;
	const char *id = NULL;

	if (one_id(argv + 1, "state", &id, e) < 0 || oci_record_load(app, id, &r, e) < 0)
		return -1;
	out = report(app, &r);
	if (json_write(&b, report_fields, &out, e) < 0 || buf_addz(&b, "\n", e) < 0)
		return -1;
	return fd_write_all(1, b.p, b.len, e);
}

static int list_json(struct oci_app *app, char *const *ids, struct buf *b, struct err *e)
{
	bool first = true;

	if (buf_addz(b, "[", e) < 0)
		return -1;
	for (; *ids; ids++) {
		struct oci_record r;
		struct oci_report out;
		struct err gone;

		if (oci_record_load(app, *ids, &r, &gone) < 0)
			continue; /* deleted meanwhile, or just being made */
		out = report(app, &r);
		if ((!first && buf_addz(b, ",", e) < 0) || json_write(b, report_fields, &out, e) < 0)
			return -1;
		first = false;
	}
	return buf_addz(b, "]\n", e);
}

int oci_list_command(struct oci_app *app, char *const *argv, struct err *e)
{
	const char *format = "table";
	bool quiet = false;
	const struct opt opts[] = {
		{ OPT_STR, 'f', "format", &format, "FORMAT", "table or json" },
		{ OPT_FLAG, 'q', "quiet", &quiet, NULL, "only ids" },
		{ 0 },
	};
	auto_buf b = BUF(64 << 20);
	char **words, **ids;

	if (opts_parse(&app->arena, opts, 0, argv, &words, e) < 0 || oci_record_ids(app, &ids, e) < 0)
		return -1;
	if (streq(format, "json")) {
		if (list_json(app, ids, &b, e) < 0)
			return -1;
		return fd_write_all(1, b.p, b.len, e);
	}
	if (!quiet)
		(void)printf("%-24s %-10s %-10s %-30s %s\n", "ID", "PID", "STATUS", "BUNDLE", "CREATED");
	for (; *ids; ids++) {
		struct oci_record r;
		struct oci_report out;
		struct err gone;

		if (oci_record_load(app, *ids, &r, &gone) < 0)
			continue;
		out = report(app, &r);
		if (quiet)
			(void)printf("%s\n", out.id);
		else
			(void)printf("%-24s %-10d %-10s %-30s %s\n", out.id, out.pid, out.status, out.bundle, out.created);
	}
	return 0;
}

int oci_ps_command(struct oci_app *app, char *const *argv, struct err *e)
{
	const char *format = "table", *id = NULL;
	const struct opt opts[] = { { OPT_STR, 'f', "format", &format, "FORMAT", "table or json" }, { 0 } };
	struct oci_record r;
	char **words;
	pid_t *pids;
	size_t n;

	if (opts_parse(&app->arena, opts, OPTS_STOP_AT_WORD, argv, &words, e) < 0 ||
	    one_id(words, "ps", &id, e) < 0 || oci_record_load(app, id, &r, e) < 0 || oci_runtime(app, e) < 0 ||
	    cgroup_pids(&app->arena, &app->rt.cgroups, r.cgroup, &pids, &n, e) < 0)
		return -1;
	if (!streq(format, "json"))
		(void)printf("PID\n");
	for (size_t i = 0; i < n; i++)
		(void)printf(streq(format, "json") ? "%s%d" : "%s%d\n", !streq(format, "json") ? "" : i ? "," : "[",
			     pids[i]);
	if (streq(format, "json"))
		(void)printf("%s]\n", n ? "" : "[");
	return 0;
}

/* --- kill, delete --------------------------------------------------------------------------------- */

static int signal_number(const char *text, struct err *e)
{
	int64_t n;
	struct err ignored;

	if (str_to_i64(str_of(text), &n, &ignored) == 0 && n >= 0 && n < NSIG)
		return (int)n;
	if (starts_with(text, "SIG"))
		text += 3;
	for (int i = 1; i < NSIG; i++) {
		const char *name = sigabbrev_np(i);

		if (name && strcasecmp(name, text) == 0)
			return i;
	}
	if (strcasecmp(text, "RTMIN") == 0)
		return SIGRTMIN;
	if (strcasecmp(text, "RTMAX") == 0)
		return SIGRTMAX;
	if (strncasecmp(text, "RTMIN+", 6) == 0 && str_to_i64(str_of(text + 6), &n, e) == 0 && n <= SIGRTMAX - SIGRTMIN)
		return SIGRTMIN + (int)n;
	if (strncasecmp(text, "RTMAX-", 6) == 0 && str_to_i64(str_of(text + 6), &n, e) == 0 && n <= SIGRTMAX - SIGRTMIN)
		return SIGRTMAX - (int)n;
	return err_set(e, ERR_INVALID, "unknown signal \"%s\"", text);
}

int oci_kill_command(struct oci_app *app, char *const *argv, struct err *e)
{
	bool all = false;
	const struct opt opts[] = { { OPT_FLAG, 'a', "all", &all, NULL, "all processes" }, { 0 } };
	auto_fd int pidfd = -1;
	struct oci_record r;
	char **words;
	int sig;

	if (opts_parse(&app->arena, opts, 0, argv, &words, e) < 0)
		return -1;
	if (!words[0] || (words[1] && words[2]))
		return err_set(e, ERR_INVALID, "kill: a container id and at most one signal are needed");
	sig = signal_number(words[1] ? words[1] : "SIGTERM", e);
	if (sig < 0 || oci_record_load(app, words[0], &r, e) < 0 || oci_runtime(app, e) < 0)
		return -1;
	if (all)
		return sig == SIGKILL ? cgroup_kill(&app->rt.cgroups, r.cgroup, e) :
		       cgroup_signal(&app->rt.cgroups, r.cgroup, sig, e);
	if (oci_record_status(app, &r, &pidfd) == OCI_STOPPED)
		return err_set(e, ERR_STATE, "container not running");
	if (proc_signal(pidfd, sig, e) < 0)
		return -1;
	/* A frozen process takes the signal only when it thaws. */
	return sig == SIGKILL && cgroup_is_frozen(&app->rt.cgroups, r.cgroup) ?
	       cgroup_thaw(&app->rt.cgroups, r.cgroup, e) : 0;
}

static int poststop(struct oci_app *app, const struct oci_record *r)
{
	struct oci_config c;
	struct err e;
	struct oci_state state = {
		.oci_version = (char *)OCI_VERSION, .id = r->id, .status = (char *)oci_status_name(OCI_STOPPED),
		.bundle = r->bundle, .annotations = r->annotations,
	};

	/* The bundle may be gone by now; a hook that fails stops nothing (runtime.md, step 13). */
	if (oci_bundle_load(app, r->bundle, &c, &e) == 0 && c.hooks)
		(void)container_hooks_run(&c.hooks->poststop, &state, &e);
	return 0;
}

int oci_delete_command(struct oci_app *app, char *const *argv, struct err *e)
{
	bool force = false;
	const struct opt opts[] = { { OPT_FLAG, 'f', "force", &force, NULL, "kills it first" }, { 0 } };
	auto_fd int pidfd = -1;
	enum oci_status status;
	struct oci_record r;
	const char *id = NULL;
	char **words;

	if (opts_parse(&app->arena, opts, 0, argv, &words, e) < 0 || one_id(words, "delete", &id, e) < 0)
		return -1;
	if (oci_record_load(app, id, &r, e) < 0) {
		if (e->kind != ERR_NOT_FOUND || !force)
			return -1;
		return oci_record_drop(app, id, e); /* a create that was killed half-way */
	}
	if (oci_runtime(app, e) < 0)
		return -1;
	status = oci_record_status(app, &r, &pidfd);
	if (status != OCI_STOPPED && status != OCI_CREATED && !force)
		return err_set(e, ERR_STATE, "cannot delete container %s that is not stopped: %s", id,
			       oci_status_name(status));
	if (pidfd >= 0) {
		struct pollfd end = { pidfd, POLLIN, 0 };

		(void)proc_signal(pidfd, SIGKILL, e); /* it may have ended by itself */
		if (cgroup_kill(&app->rt.cgroups, r.cgroup, e) < 0)
			return -1;
		(void)poll(&end, 1, 10000);
	}
	if (r.cgroup && container_cgroup_remove(&app->rt.cgroups, r.cgroup, 10000, e) < 0)
		return -1;
	(void)poststop(app, &r);
	return oci_record_drop(app, id, e);
}

/* --- pause, resume, update ------------------------------------------------------------------------ */

static int load_running(struct oci_app *app, const char *id, struct oci_record *r, enum oci_status *status,
			struct err *e)
{
	auto_fd int pidfd = -1;

	if (oci_record_load(app, id, r, e) < 0 || oci_runtime(app, e) < 0)
		return -1;
	*status = oci_record_status(app, r, &pidfd);
	if (*status == OCI_STOPPED)
		return err_set(e, ERR_STATE, "container %s is stopped", id);
	return 0;
}

int oci_pause_command(struct oci_app *app, char *const *argv, struct err *e)
{
	enum oci_status status;
	struct oci_record r;
	const char *id = NULL;

	if (one_id(argv + 1, "pause", &id, e) < 0 || load_running(app, id, &r, &status, e) < 0)
		return -1;
	if (status == OCI_PAUSED)
		return err_set(e, ERR_STATE, "container not running or created: paused");
	return cgroup_freeze(&app->rt.cgroups, r.cgroup, e);
}

int oci_resume_command(struct oci_app *app, char *const *argv, struct err *e)
{
	enum oci_status status;
	struct oci_record r;
	const char *id = NULL;

	if (one_id(argv + 1, "resume", &id, e) < 0 || load_running(app, id, &r, &status, e) < 0)
		return -1;
	if (status != OCI_PAUSED)
		return err_set(e, ERR_STATE, "container not paused");
	return cgroup_thaw(&app->rt.cgroups, r.cgroup, e);
}

int oci_update_command(struct oci_app *app, char *const *argv, struct err *e)
{
	const char *file = NULL, *cpus = NULL, *mems = NULL, *id = NULL;
	int64_t memory = 0, swap = 0, reservation = 0, quota = 0, period = 0, shares = 0, pids = 0;
	uint64_t u_period, u_shares;
	const struct opt opts[] = {
		{ OPT_STR, 'r', "resources", &file, "FILE", "the resources as JSON, - is stdin" },
		{ OPT_BYTES, 0, "memory", &memory, "BYTES", "memory limit" },
		{ OPT_BYTES, 0, "memory-swap", &swap, "BYTES", "memory and swap" },
		{ OPT_BYTES, 0, "memory-reservation", &reservation, "BYTES", "soft limit" },
		{ OPT_I64, 0, "cpu-quota", &quota, "US", "CPU time a period" },
		{ OPT_I64, 0, "cpu-period", &period, "US", "the period" },
		{ OPT_I64, 0, "cpu-share", &shares, "N", "CPU shares" },
		{ OPT_I64, 0, "pids-limit", &pids, "N", "most processes" },
		{ OPT_STR, 0, "cpuset-cpus", &cpus, "LIST", "CPUs" },
		{ OPT_STR, 0, "cpuset-mems", &mems, "LIST", "memory nodes" },
		{ 0 },
	};
	struct oci_memory m = { 0 };
	struct oci_cpu c = { 0 };
	struct oci_pids p = { 0 };
	struct oci_resources res = { 0 };
	enum oci_status status;
	struct oci_record r;
	struct str text;
	char **words;

	if (opts_parse(&app->arena, opts, 0, argv, &words, e) < 0 || one_id(words, "update", &id, e) < 0 ||
	    load_running(app, id, &r, &status, e) < 0)
		return -1;
	if (file) {
		if (fs_read_file(&app->arena, AT_FDCWD, streq(file, "-") ? "/dev/stdin" : file, 1 << 20, &text, e) < 0 ||
		    oci_resources_read(&app->arena, text, &res, e) < 0)
			return err_in(e, "--resources");
		return resources_update(&app->rt.cgroups, r.cgroup, &res, e);
	}
	u_period = (uint64_t)period;
	u_shares = (uint64_t)shares;
	m.limit = memory ? &memory : NULL;
	m.swap = swap ? &swap : NULL;
	m.reservation = reservation ? &reservation : NULL;
	c = (struct oci_cpu){ .quota = quota ? &quota : NULL, .period = period ? &u_period : NULL,
			      .shares = shares ? &u_shares : NULL, .cpus = (char *)cpus, .mems = (char *)mems };
	p.limit = pids ? &pids : NULL;
	res.memory = &m;
	res.cpu = &c;
	res.pids = &p;
	return resources_update(&app->rt.cgroups, r.cgroup, &res, e);
}

/* --- exec ----------------------------------------------------------------------------------------- */

struct exec_options {
	const char *process, *cwd, *user, *console_socket, *pid_file, *apparmor;
	char **env, **caps;
	bool tty, detach, no_new_privs, ignore_paused;
	int64_t preserve_fds;
};

/* "uid[:gid]": numbers only, and nothing else is guessed (CVE-2026-30892). */
static int parse_user(const char *text, struct oci_user *out, struct err *e)
{
	struct str rest = str_of(text), uid = str_cut(&rest, ':');
	bool has_gid = rest.p != NULL;

	if (str_to_u32_base(uid, 10, &out->uid, e) < 0 || (has_gid && str_to_u32_base(rest, 10, &out->gid, e) < 0))
		return err_set(e, ERR_INVALID, "--user: \"%s\" is not uid[:gid]", text);
	if (!has_gid)
		out->gid = 0;
	return 0;
}

static int exec_process(struct oci_app *app, const struct exec_options *o, const struct oci_config *c,
			char **words, struct oci_process *out, struct err *e)
{
	struct oci_process p = *c->process;
	struct str text;

	if (o->process) {
		if (fs_read_file(&app->arena, AT_FDCWD, o->process, OCI_CONFIG_MAX, &text, e) < 0 ||
		    oci_process_read(&app->arena, text, out, e) < 0)
			return err_in(e, "--process");
		return 0;
	}
	if (!words[0] || !words[1])
		return err_set(e, ERR_INVALID, "exec: a container id and a command are needed");
	p.args = words + 1;
	p.terminal = o->tty;
	p.no_new_privileges |= o->no_new_privs;
	p.cwd = o->cwd ? (char *)o->cwd : p.cwd;
	p.apparmor_profile = o->apparmor ? (char *)o->apparmor : p.apparmor_profile;
	for (char **v = o->env; v && *v; v++)
		p.env = strv_append(&app->arena, p.env, *v);
	if (o->user && parse_user(o->user, &p.user, e) < 0)
		return -1;
	*out = p;
	return 0;
}

static int exec_run(struct oci_app *app, const struct exec_options *o, const struct exec_spec *s, struct err *e)
{
	struct container_process p;
	char pid[16];
	int code = 0;

	if (container_exec(&app->rt, &app->arena, s, &p, e) < 0)
		return -1;
	(void)snprintf(pid, sizeof(pid), "%d", p.pid);
	if (o->pid_file && fs_replace(AT_FDCWD, o->pid_file, pid, strlen(pid), 0644, 0, e) < 0)
		return -1;
	if (p.console_fd >= 0 && o->console_socket) {
		if (oci_console_send(o->console_socket, p.console_fd, e) < 0)
			return -1;
		fd_close(&p.console_fd);
	}
	if (!o->detach && oci_foreground(&p, p.console_fd, &code, e) < 0)
		return -1;
	container_process_close(&p);
	return code;
}

int oci_exec_command(struct oci_app *app, char *const *argv, struct err *e)
{
	struct exec_options o = { 0 };
	const struct opt opts[] = {
		{ OPT_STR, 'p', "process", &o.process, "FILE", "process.json" },
		{ OPT_STR, 0, "cwd", &o.cwd, "PATH", "working folder" },
		{ OPT_STR, 'u', "user", &o.user, "UID[:GID]", "user" },
		{ OPT_STRV, 'e', "env", &o.env, "NAME=VALUE", "environment" },
		{ OPT_FLAG, 't', "tty", &o.tty, NULL, "a terminal" },
		{ OPT_FLAG, 'd', "detach", &o.detach, NULL, "does not wait" },
		{ OPT_STR, 0, "console-socket", &o.console_socket, "PATH", "receives the terminal" },
		{ OPT_STR, 0, "pid-file", &o.pid_file, "PATH", "gets the process's number" },
		{ OPT_STR, 0, "apparmor", &o.apparmor, "PROFILE", "AppArmor profile" },
		{ OPT_FLAG, 0, "no-new-privs", &o.no_new_privs, NULL, "no new privileges" },
		{ OPT_FLAG, 0, "ignore-paused", &o.ignore_paused, NULL, "waits for a paused container" },
		{ OPT_I64, 0, "preserve-fds", &o.preserve_fds, "N", "fds passed on" },
		{ 0 },
	};
	struct exec_spec s = EXEC_SPEC_INIT;
	auto_fd int pidfd = -1;
	struct oci_process process;
	struct oci_config config;
	enum oci_status status;
	struct oci_record r;
	char **words;

	if (opts_parse(&app->arena, opts, OPTS_STOP_AT_WORD, argv, &words, e) < 0)
		return -1;
	if (!words[0])
		return err_set(e, ERR_INVALID, "exec: a container id is needed");
	if (oci_record_load(app, words[0], &r, e) < 0 || oci_runtime(app, e) < 0 ||
	    oci_bundle_load(app, r.bundle, &config, e) < 0 ||
	    exec_process(app, &o, &config, words, &process, e) < 0)
		return -1;
	status = oci_record_status(app, &r, &pidfd);
	if (status == OCI_STOPPED)
		return err_set(e, ERR_STATE, "cannot exec in a stopped container");
	oci_home_set(app, arena_printf(&app->arena, "/proc/%d/root", r.pid), &process);
	s.id = r.id;
	s.config = &config;
	s.process = &process;
	s.pidfd = pidfd;
	s.cgroup = r.cgroup;
	s.std_in = 0;
	s.std_out = 1;
	s.std_err = 2;
	s.preserve_fds = (unsigned)o.preserve_fds;
	return exec_run(app, &o, &s, e);
}
