#include "runtime/oci.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { RUNS_IN_CONTAINER = BIT(0) }; /* so it must run from a clone of its own file */

static const struct command {
	const char *name;
	int (*run)(struct oci_app *app, char *const *argv, struct err *e);
	unsigned flags;
	const char *help;
} commands[] = {
	{ "create", oci_create_command, RUNS_IN_CONTAINER, "create a container" },
	{ "start", oci_start_command, 0, "start a created container" },
	{ "run", oci_run_command, RUNS_IN_CONTAINER, "create and start a container" },
	{ "exec", oci_exec_command, RUNS_IN_CONTAINER, "execute another process in a container" },
	{ "kill", oci_kill_command, 0, "send a signal to a container" },
	{ "delete", oci_delete_command, 0, "delete a container" },
	{ "state", oci_state_command, 0, "print a container's state" },
	{ "list", oci_list_command, 0, "list the containers" },
	{ "ps", oci_ps_command, 0, "list a container's processes" },
	{ "pause", oci_pause_command, 0, "freeze a container" },
	{ "resume", oci_resume_command, 0, "continue a frozen container" },
	{ "update", oci_update_command, 0, "change a container's resources" },
	{ "spec", oci_spec_command, 0, "write a config.json to start from" },
	{ "features", oci_features_command, 0, "print what this runtime supports" },
};

static int usage(const struct opt *opts)
{
	auto_arena a = { 0 };

	(void)printf("knarr-oci: an OCI runtime with runc's command line\n\n"
		     "usage: knarr-oci [OPTIONS] COMMAND [ARGUMENTS]\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		(void)printf("  %-10s %s\n", commands[i].name, commands[i].help);
	(void)printf("\n%s", opts_help(&a, opts));
	return 0;
}

static int run_command(struct oci_app *app, char *const *argv, char *const *words, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!streq(commands[i].name, words[0]))
			continue;
		if (commands[i].flags & RUNS_IN_CONTAINER && runtime_self_protect(argv, app->envp, e) < 0)
			return -1;
		return commands[i].run(app, words, e);
	}
	return err_set(e, ERR_INVALID, "unknown command \"%s\": knarr-oci --help lists them", words[0]);
}

/* Where callers (containerd's shim, docker) look for the reason. */
static void report(const struct oci_app *app, const struct err *e)
{
	if (app->log) {
		struct err ignored;
		auto_fd int fd = fd_create(AT_FDCWD, app->log, O_WRONLY | O_CREAT | O_APPEND, 0644, &ignored);

		if (fd >= 0) {
			log_configure(app->debug ? LOG_DEBUG : LOG_INFO,
				      app->log_format && streq(app->log_format, "json") ? LOG_JSON : LOG_TEXT, fd);
			log_error("%s", e->msg);
		}
	}
	(void)fprintf(stderr, "knarr-oci: %s\n", e->msg);
}

int main(int argc, char **argv, char **envp)
{
	struct oci_app app = { .root = "/run/knarr-oci", .envp = envp };
	bool version = false, help = false;
	const char *rootless = NULL;
	const struct opt opts[] = {
		{ OPT_STR, 0, "root", &app.root, "PATH", "where the containers' states lie" },
		{ OPT_STR, 0, "log", &app.log, "FILE", "gets the errors too" },
		{ OPT_STR, 0, "log-format", &app.log_format, "FORMAT", "text or json" },
		{ OPT_FLAG, 0, "debug", &app.debug, NULL, "logs more" },
		{ OPT_FLAG, 0, "systemd-cgroup", &app.systemd_cgroup, NULL, "cgroups by systemd" },
		{ OPT_STR, 0, "rootless", &rootless, "BOOL", "ignored" },
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
	if (version) {
		(void)printf("knarr-oci version %s\nspec: %s\n", KNARR_VERSION, OCI_VERSION);
		return 0;
	}
	if (help || !words[0])
		return usage(opts);
	log_configure(app.debug ? LOG_DEBUG : LOG_WARN, LOG_TEXT, 2);
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
