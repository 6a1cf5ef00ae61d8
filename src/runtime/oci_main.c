#include "runtime/oci.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { RUNS_IN_CONTAINER = BIT(0) }; /* so it must run from a clone of its own file */
enum { UNKNOWN_COMMAND = 3 };        /* the exit code, as runc's */

static const struct oci_command commands[] = {
	{ "create", oci_create_command, RUNS_IN_CONTAINER, "ID", "create a container" },
	{ "start", oci_start_command, 0, "ID", "start a created container" },
	{ "run", oci_run_command, RUNS_IN_CONTAINER, "ID", "create and start a container" },
	{ "exec", oci_exec_command, RUNS_IN_CONTAINER, "ID COMMAND [ARG...]", "execute another process in a container" },
	{ "kill", oci_kill_command, 0, "ID [SIGNAL]", "send a signal to a container" },
	{ "delete", oci_delete_command, 0, "ID", "delete a container" },
	{ "state", oci_state_command, 0, "ID", "print a container's state" },
	{ "list", oci_list_command, 0, "", "list the containers" },
	{ "ps", oci_ps_command, 0, "ID [PS-OPTION...]", "list a container's processes" },
	{ "events", oci_events_command, 0, "ID", "print what a container uses, and when memory ran out" },
	{ "pause", oci_pause_command, 0, "ID", "freeze a container" },
	{ "resume", oci_resume_command, 0, "ID", "continue a frozen container" },
	{ "update", oci_update_command, 0, "ID", "change a container's resources" },
	{ "spec", oci_spec_command, 0, "", "write a config.json to start from" },
	{ "checkpoint", oci_checkpoint_command, 0, "ID", "write a container's processes to files, by CRIU" },
	{ "restore", oci_restore_command, 0, "ID", "continue a container from a checkpoint" },
	{ "features", oci_features_command, 0, "", "print what this runtime supports" },
};

static int usage(const struct opt *opts)
{
	auto_arena a = { 0 };

	(void)printf("NAME:\n   knarr-oci - an OCI runtime with runc's command line\n\n"
		     "USAGE:\n   knarr-oci [OPTIONS] COMMAND [ARGUMENTS]\n\nCOMMANDS:\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		(void)printf("  %-10s %s\n", commands[i].name, commands[i].help);
	(void)printf("\nOPTIONS:\n%s", opts_help(&a, opts));
	return 0;
}

/* Where callers (containerd's shim, docker) look for the reason: runc's lines. */
static int error_line(const struct oci_app *app, const char *msg, struct buf *b, struct err *e)
{
	bool json = app->log_format && streq(app->log_format, "json");
	char when[CLOCK_TEXT_MAX];

	clock_format_rfc3339(clock_wall_ns() / NS_PER_S * NS_PER_S, when);
	if (buf_addf(b, e, json ? "{\"level\":\"error\",\"msg\":" : "time=\"%s\" level=error msg=", when) < 0 ||
	    json_write_text(b, msg, e) < 0)
		return -1;
	return json ? buf_addf(b, e, ",\"time\":\"%s\"}\n", when) : buf_addz(b, "\n", e);
}

static void report(const struct oci_app *app, const struct err *e)
{
	auto_buf b = BUF(65536);
	struct err ignored;

	if (app->log_fd >= 0 && error_line(app, e->msg, &b, &ignored) == 0)
		(void)fd_write_all(app->log_fd, b.p, b.len, &ignored); /* it is on stderr, too */
	(void)fprintf(stderr, "%s%s\n", app->log_fd >= 0 ? "" : "knarr-oci: ", e->msg);
}

static int run_command(struct oci_app *app, char *const *argv, char *const *words, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!streq(commands[i].name, words[0]))
			continue;
		if (commands[i].flags & RUNS_IN_CONTAINER && runtime_self_protect(argv, app->envp, e) < 0)
			return -1;
		app->command = &commands[i];
		log_debug("knarr-oci %s: %s, root %s", KNARR_VERSION, words[0], app->root);
		return commands[i].run(app, words, e);
	}
	/* runc's words and exit code: engines try out what a runtime has. */
	(void)err_set(e, ERR_UNIMPLEMENTED, "No help topic for '%s' (unknown command: knarr-oci --help lists them)", words[0]);
	report(app, e);
	return UNKNOWN_COMMAND;
}

int oci_options(struct oci_app *app, const struct opt *opts, int flags, char *const *argv, char ***words, struct err *e)
{
	for (char *const *p = argv + 1; *p && !streq(*p, "--") && (**p == '-' || !(flags & OPTS_STOP_AT_WORD)); p++)
		if (streq(*p, "--help") || streq(*p, "-h")) {
			(void)printf("NAME:\n   knarr-oci %s - %s\n\nUSAGE:\n   knarr-oci %s [OPTIONS] %s\n\nOPTIONS:\n%s", app->command->name,
				     app->command->help, app->command->name, app->command->args, opts_help(&app->arena, opts));
			(void)fflush(stdout);
			exit(0);
		}
	return opts_parse(&app->arena, opts, flags, argv, words, e);
}

int oci_only_id(struct oci_app *app, char *const *argv, const char **id, struct err *e)
{
	static const struct opt none[] = { { 0 } };
	char **words;

	if (oci_options(app, none, 0, argv, &words, e) < 0)
		return -1;
	if (strv_len(words) != 1)
		return err_set(e, ERR_INVALID, "%s: exactly one container id is needed", argv[0]);
	*id = words[0];
	return 0;
}

int oci_need_cgroup(const struct oci_record *r, const char *command, struct err *e)
{
	return r->cgroup ? 0 : err_set(e, ERR_STATE, "%s: container %s was made without a cgroup of its own "
				       "(--cgroup-manager=disabled)", command, r->id);
}

int oci_check_fds(int64_t n, struct err *e)
{
	for (int64_t fd = 3; fd < 3 + n; fd++) {
		int flags = fcntl((int)fd, F_GETFD);

		/* Ours are close-on-exec from birth; what has come over an exec is not. */
		if (flags < 0 || flags & FD_CLOEXEC)
			return err_set(e, ERR_INVALID, "--preserve-fds: fd %lld (of %lld) is not open", (long long)fd, (long long)n);
	}
	return 0;
}

static int check_globals(struct oci_app *app, const char *rootless, const char *manager, struct err *e)
{
	if (app->log_format && !streq(app->log_format, "text") && !streq(app->log_format, "json"))
		return err_set(e, ERR_INVALID, "invalid log-format: %s", app->log_format);
	if (rootless && !streq(rootless, "true") && !streq(rootless, "false") && !streq(rootless, "auto"))
		return err_set(e, ERR_INVALID, "--rootless: \"%s\" is not true, false or auto", rootless);
	if (!manager)
		return 0;
	if (!streq(manager, "cgroupfs") && !streq(manager, "systemd") && !streq(manager, "disabled"))
		return err_set(e, ERR_INVALID, "--cgroup-manager: \"%s\" is not cgroupfs, systemd or disabled", manager);
	app->systemd_cgroup = streq(manager, "systemd");
	app->no_cgroup = streq(manager, "disabled");
	return 0;
}

/* Warnings, too, go where the caller looks. */
static int open_log(struct oci_app *app, struct err *e)
{
	enum log_format format = app->log_format && streq(app->log_format, "json") ? LOG_JSON : LOG_LOGFMT;

	if (!str_is_empty(app->log)) {
		app->log_fd = fd_create(AT_FDCWD, app->log, O_WRONLY | O_CREAT | O_APPEND, 0644, e);
		if (app->log_fd < 0)
			return err_in(e, "--log");
	}
	log_configure(app->debug ? LOG_DEBUG : LOG_WARN, format, app->log_fd >= 0 ? app->log_fd : 2);
	return 0;
}

/* Scripts pass on an empty --root where they have none. */
static void find_root(struct oci_app *app)
{
	app->root_given = !str_is_empty(app->root);
	if (app->root_given)
		return;
	app->root = "/run/knarr-oci";
	if (geteuid() != 0 && getenv("XDG_RUNTIME_DIR"))
		app->root = arena_printf(&app->arena, "%s/knarr-oci", getenv("XDG_RUNTIME_DIR"));
}

int main(int argc, char **argv, char **envp)
{
	struct oci_app app = { .envp = envp, .log_fd = -1 };
	bool version = false, help = false;
	const char *rootless = NULL, *manager = NULL;
	const struct opt opts[] = {
		{ OPT_STR, 0, "root", &app.root, "PATH", "where the containers' states lie" },
		{ OPT_STR, 0, "log", &app.log, "FILE", "gets the errors, too, and the log" },
		{ OPT_STR, 0, "log-format", &app.log_format, "FORMAT", "text or json" },
		{ OPT_FLAG, 0, "debug", &app.debug, NULL, "logs more" },
		{ OPT_FLAG, 0, "systemd-cgroup", &app.systemd_cgroup, NULL, "cgroups by systemd" },
		{ OPT_STR, 0, "cgroup-manager", &manager, "NAME", "cgroupfs, systemd or disabled (no cgroup is made or joined)" },
		{ OPT_STR, 0, "criu", &app.criu, "PATH", "the CRIU program for checkpoint and restore" },
		{ OPT_STR, 0, "rootless", &rootless, "BOOL", "true, false or auto" },
		{ OPT_FLAG, 'v', "version", &version, NULL, "prints the version" },
		{ OPT_FLAG, 'h', "help", &help, NULL, "prints this" },
		{ 0 },
	};
	char **words;
	struct err e;
	int code;

	(void)argc;
	if (opts_parse(&app.arena, opts, OPTS_STOP_AT_WORD, argv, &words, &e) < 0) {
		report(&app, &e);
		return 1;
	}
	find_root(&app);
	if (version) {
		(void)printf("knarr-oci version %s\nspec: %s\n", KNARR_VERSION, OCI_VERSION);
		return 0;
	}
	if (help || !words[0])
		return usage(opts);
	if (check_globals(&app, rootless, manager, &e) < 0 || open_log(&app, &e) < 0)
		code = -1;
	else
		code = run_command(&app, argv, words, &e);
	if (code < 0) {
		code = 1;
		if (streq(words[0], "exec")) { /* its own exit codes are the program's */
			(void)err_in(&e, "exec failed");
			code = 255;
		}
		report(&app, &e);
	}
	(void)fflush(stdout);
	if (app.rt_open)
		runtime_close(&app.rt);
	arena_free(&app.arena);
	return code;
}
