#include "runtime/oci.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/proc.h"
#include "base/str.h"
#include "kernel/caps.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

struct exec_options {
	const char *process, *cwd, *user, *console_socket, *pidfd_socket, *pid_file, *apparmor, *label;
	char **env, **caps, **gids, **cgroups;
	bool tty, detach, no_new_privs, ignore_paused, no_subreaper;
	int64_t preserve_fds;
};

/* "uid[:gid]": numbers only, and nothing else is guessed (CVE-2026-30892). Without a gid the container's stays. */
static int parse_user(const char *text, struct oci_user *out, struct err *e)
{
	struct str rest = str_of(text), uid = str_cut(&rest, ':');
	bool has_gid = rest.p != NULL;

	if (str_to_u32_base(uid, 10, &out->uid, e) < 0 || (has_gid && str_to_u32_base(rest, 10, &out->gid, e) < 0))
		return err_set(e, ERR_INVALID, "--user: \"%s\" is not uid[:gid]", text);
	return 0;
}

static int add_gids(struct arena *a, char *const *texts, struct oci_user *u, struct err *e)
{
	size_t n = u->additional_gids.count;
	uint32_t *all = arena_newn0(a, uint32_t, n + strv_len(texts) + 1);

	if (n)
		memcpy(all, u->additional_gids.p, n * sizeof(*all));
	for (; *texts; texts++)
		if (str_to_u32_base(str_of(*texts), 10, &all[n++], e) < 0)
			return err_set(e, ERR_INVALID, "--additional-gids: \"%s\" is not a gid", *texts);
	u->additional_gids = (struct json_vec){ all, n };
	return 0;
}

/* Ambient capabilities are those that the container hands on to programs: only where it hands on some. */
static int add_caps(struct arena *a, char *const *names, struct oci_process *p, struct err *e)
{
	struct oci_capabilities *c = arena_new0(a, struct oci_capabilities);

	if (p->capabilities)
		*c = *p->capabilities;
	for (; *names; names++) {
		if (cap_by_name(*names) < 0)
			return err_set(e, ERR_INVALID, "--cap: unknown capability \"%s\"", *names);
		c->bounding = strv_append(a, c->bounding, *names);
		c->effective = strv_append(a, c->effective, *names);
		c->permitted = strv_append(a, c->permitted, *names);
		if (c->inheritable)
			c->ambient = strv_append(a, c->ambient, *names);
	}
	p->capabilities = c;
	return 0;
}

static int process_of_options(struct arena *a, const struct exec_options *o, struct oci_process *p, struct err *e)
{
	p->terminal = o->tty;
	p->no_new_privileges |= o->no_new_privs;
	p->cwd = o->cwd ? (char *)o->cwd : p->cwd;
	p->apparmor_profile = o->apparmor ? (char *)o->apparmor : p->apparmor_profile;
	p->selinux_label = o->label ? (char *)o->label : p->selinux_label;
	for (char **v = o->env; v && *v; v++)
		p->env = strv_append(a, p->env, *v);
	if (o->user && parse_user(o->user, &p->user, e) < 0)
		return -1;
	if (o->gids && add_gids(a, o->gids, &p->user, e) < 0)
		return -1;
	return o->caps ? add_caps(a, o->caps, p, e) : 0;
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
	if (!words[1])
		return err_set(e, ERR_INVALID, "exec args cannot be empty");
	p.args = words + 1;
	if (process_of_options(&app->arena, o, &p, e) < 0)
		return -1;
	*out = p;
	return 0;
}

/* --- --cgroup ------------------------------------------------------------------------------------- */

static int controllers_of(const struct cgroup_layout *l, const char *word, struct str names, unsigned *out, struct err *e)
{
	while (names.p) {
		struct str name = str_cut(&names, ',');
		enum cgroup_controller c = 0;

		while (c < CGROUP_CONTROLLER_COUNT && !str_eqz(name, cgroup_controller_name(c)))
			c++;
		if (!name.len)
			return err_set(e, ERR_INVALID, "invalid --cgroup argument: %s (empty <controller> prefix)", word);
		if (c == CGROUP_CONTROLLER_COUNT || l->of[c] < 0)
			return err_set(e, ERR_INVALID, "invalid --cgroup argument: %s (unknown controller %.*s)", word, STR_ARG(name));
		if (*out & BIT(l->of[c]))
			return err_set(e, ERR_INVALID, "invalid --cgroup argument(s): controller %.*s specified multiple times",
				       STR_ARG(name));
		*out |= BIT(l->of[c]);
	}
	return 0;
}

/* "[CONTROLLER[,CONTROLLER…]:]PATH" below the container's cgroup. */
static int exec_cgroup(struct oci_app *app, const struct oci_record *r, const char *word, struct exec_cgroup *out,
		       unsigned *seen, struct err *e)
{
	const struct cgroup_layout *l = &app->rt.cgroups;
	const char *path = strchr(word, ':');
	unsigned hierarchies = 0;

	if (path && controllers_of(l, word, (struct str){ word, (size_t)(path - word) }, &hierarchies, e) < 0)
		return -1;
	if (hierarchies & *seen)
		return err_set(e, ERR_INVALID, "invalid --cgroup argument(s): %s: a controller specified multiple times", word);
	*seen |= hierarchies;
	out->hierarchies = path ? hierarchies : ~0U;
	path = path ? path + 1 : word;
	for (struct str rest = str_of(path); rest.p;)
		if (str_eqz(str_cut(&rest, '/'), ".."))
			return err_set(e, ERR_INVALID, "bad sub cgroup path: %s", word);
	path = path_clean(&app->arena, path);
	out->path = arena_printf(&app->arena, "%s%s%s", r->cgroup, *path == '/' ? "" : "/", path);
	return cgroup_path_clean(&app->arena, out->path, &out->path, e);
}

static int exec_cgroups(struct oci_app *app, const struct oci_record *r, char *const *words, struct exec_spec *s,
			struct err *e)
{
	struct exec_cgroup *all = arena_newn0(&app->arena, struct exec_cgroup, strv_len(words) + 1);
	unsigned seen = 0;

	if (words && oci_need_cgroup(r, "exec --cgroup", e) < 0)
		return -1;
	for (; words && words[s->ncgroups]; s->ncgroups++) {
		const char *word = words[s->ncgroups];

		if (!strchr(word, ':') && words[1])
			return err_set(e, ERR_INVALID, "invalid --cgroup argument: %s (missing <controller>: prefix)", word);
		if (exec_cgroup(app, r, word, &all[s->ncgroups], &seen, e) < 0)
			return -1;
	}
	s->cgroups = all;
	return 0;
}

/* --- running -------------------------------------------------------------------------------------- */

static int exec_run(struct oci_app *app, const struct exec_options *o, const struct exec_spec *s, struct err *e)
{
	struct container_process p;
	char pid[16];
	int code = 0;

	if (container_exec(&app->rt, &app->arena, s, &p, e) < 0)
		return -1;
	log_debug("container %s: exec, process %d", s->id, p.pid);
	(void)snprintf(pid, sizeof(pid), "%d", p.pid);
	if (o->pid_file && fs_replace(AT_FDCWD, o->pid_file, pid, strlen(pid), 0644, 0, e) < 0)
		return -1;
	if (p.console_fd >= 0 && o->console_socket) {
		if (oci_console_send(o->console_socket, p.console_fd, e) < 0)
			return -1;
		fd_close(&p.console_fd);
	}
	if (o->pidfd_socket && oci_fd_send(o->pidfd_socket, "pidfd", p.pidfd, e) < 0)
		return -1;
	if (!o->detach && oci_foreground(&p, p.console_fd, &code, e) < 0)
		return -1;
	container_process_close(&p);
	return code;
}

static int check_terminal(const struct exec_options *o, const struct oci_process *p, struct err *e)
{
	if (p->terminal && o->detach && !o->console_socket)
		return err_set(e, ERR_INVALID, "cannot allocate tty if it is detached: --console-socket is needed");
	if (!p->terminal && o->console_socket)
		return err_set(e, ERR_INVALID, "--console-socket: the process has no terminal");
	if (o->preserve_fds < 0 || o->preserve_fds > 1000)
		return err_set(e, ERR_INVALID, "--preserve-fds: not a number of fds");
	return oci_check_fds(o->preserve_fds, e);
}

static int check_status(const struct exec_options *o, enum oci_status status, struct err *e)
{
	if (status == OCI_STOPPED)
		return err_set(e, ERR_STATE, "cannot exec in a stopped container");
	if (status == OCI_PAUSED && !o->ignore_paused)
		return err_set(e, ERR_STATE, "cannot exec in a paused container (use --ignore-paused to override)");
	return 0;
}

static int exec_in(struct oci_app *app, const struct exec_options *o, char **words, struct err *e)
{
	struct exec_spec s = EXEC_SPEC_INIT;
	auto_fd int pidfd = -1, rdt = -1;
	struct oci_process process;
	struct oci_config config;
	struct oci_record r;

	if (oci_record_load(app, words[0], &r, e) < 0 || oci_runtime(app, e) < 0 ||
	    check_status(o, oci_record_status(app, &r, &pidfd), e) < 0 ||
	    oci_bundle_load(app, r.bundle, &config, e) < 0 || oci_annotations_apply(app, &config, e) < 0 ||
	    exec_process(app, o, &config, words, &process, e) < 0 || check_terminal(o, &process, e) < 0 ||
	    exec_cgroups(app, &r, o->cgroups, &s, e) < 0 || oci_rdt_join(app, &config, &r, &rdt, e) < 0)
		return -1;
	oci_home_set(app, arena_printf(&app->arena, "/proc/%d/root", r.pid), &process);
	s.id = r.id;
	s.bundle = r.bundle;
	s.config = &config;
	s.process = &process;
	s.pidfd = pidfd;
	s.rdt_tasks_fd = rdt;
	s.cgroup = r.cgroup;
	s.std_in = 0;
	s.std_out = 1;
	s.std_err = 2;
	s.preserve_fds = (unsigned)o->preserve_fds;
	s.flags = app->container_flags | (o->console_socket ? 0 : CONTAINER_PLAIN_LINES) |
		  (o->ignore_paused ? CONTAINER_IGNORE_PAUSED : 0);
	return exec_run(app, o, &s, e);
}

int oci_exec_command(struct oci_app *app, char *const *argv, struct err *e)
{
	struct exec_options o = { 0 };
	const struct opt opts[] = {
		{ OPT_STR, 0, "console-socket", &o.console_socket, "PATH", "receives the terminal" },
		{ OPT_STR, 0, "pidfd-socket", &o.pidfd_socket, "PATH", "receives the process's pidfd" },
		{ OPT_STR, 0, "cwd", &o.cwd, "PATH", "working folder" },
		{ OPT_STRV, 'e', "env", &o.env, "NAME=VALUE", "environment" },
		{ OPT_FLAG, 't', "tty", &o.tty, NULL, "a terminal" },
		{ OPT_STR, 'u', "user", &o.user, "UID[:GID]", "user" },
		{ OPT_STRV, 'g', "additional-gids", &o.gids, "GID", "one more group" },
		{ OPT_STR, 'p', "process", &o.process, "FILE", "process.json" },
		{ OPT_FLAG, 'd', "detach", &o.detach, NULL, "does not wait" },
		{ OPT_STR, 0, "pid-file", &o.pid_file, "PATH", "gets the process's number" },
		{ OPT_STR, 0, "process-label", &o.label, "LABEL", "SELinux label" },
		{ OPT_STR, 0, "apparmor", &o.apparmor, "PROFILE", "AppArmor profile" },
		{ OPT_FLAG, 0, "no-new-privs", &o.no_new_privs, NULL, "no new privileges" },
		{ OPT_STRV, 'c', "cap", &o.caps, "CAP", "one more capability" },
		{ OPT_I64, 0, "preserve-fds", &o.preserve_fds, "N", "fds passed on" },
		{ OPT_STRV, 0, "cgroup", &o.cgroups, "[CONTROLLER:]PATH", "a cgroup below the container's" },
		{ OPT_FLAG, 0, "ignore-paused", &o.ignore_paused, NULL, "goes into a paused container and waits there" },
		{ OPT_FLAG, 0, "no-subreaper", &o.no_subreaper, NULL, "ignored" },
		{ 0 },
	};
	char **words;

	if (oci_options(app, opts, OPTS_STOP_AT_WORD, argv, &words, e) < 0)
		return -1;
	if (!words[0])
		return err_set(e, ERR_INVALID, "exec: a container id is needed");
	return exec_in(app, &o, words, e);
}
