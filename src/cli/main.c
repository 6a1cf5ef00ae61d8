/* knarr: the user's command. */
#include "cli/cli.h"
#include "cli/image_verbs.h"

#include "base/fs.h"
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const struct verb cli_verbs[] = {
	{ "run", "[OPTION…] IMAGE [COMMAND [ARG…]]", "Run a command in a new container", verb_run, NULL },
	{ "ps", "[-a]", "List containers", verb_ps, NULL },
	{ "logs", "[-f] CONTAINER", "Show what a container wrote", verb_logs, NULL },
	{ "exec", "[-it] CONTAINER COMMAND [ARG…]", "Run a command in a running container", verb_exec, NULL },
	{ "attach", "[--no-stdin] CONTAINER", "Be with a running container: its output, your input", verb_attach, NULL },
	{ "port-forward", "CONTAINER LOCAL:REMOTE…", "Reach a container's ports from here", verb_port_forward, NULL },
	{ "stop", "[-t SECONDS] CONTAINER…", "Stop containers", verb_stop, NULL },
	{ "rm", "[-f] CONTAINER…", "Remove containers with their pods", verb_rm, NULL },
	{ "inspect", "CONTAINER|IMAGE", "Everything known of one thing, as JSON", verb_inspect, NULL },
	{ "stats", "[CONTAINER…]", "What containers use now", verb_stats, NULL },
	{ "image", "VERB [ARG…]", "Images: list, save, load, make, look into; knarr image --help", verb_image, NULL },
	{ "pull", "IMAGE", "Fetch an image", verb_pull, NULL },
	{ "push", "IMAGE [WHERE]", "Send an image to a registry", verb_image_push, NULL },
	{ "images", "", "List images", verb_images, NULL },
	{ "rmi", "IMAGE…", "Remove images", verb_rmi, NULL },
	{ "tag", "IMAGE NAME", "Give an image one more name", verb_tag, NULL },
	{ "info", "", "The daemon: its state, folders and handlers", verb_info, NULL },
	{ "version", "", "Versions of the command and the daemon", verb_version, NULL },
	{ "completion", "bash|zsh|fish", "What a shell needs to complete verbs and names", verb_completion, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static const struct verb *current;

static void help(void)
{
	puts("knarr: containers on this machine\n\nusage: knarr [--socket PATH] [--config FILE] VERB [ARG…]\n");
	for (const struct verb *v = cli_verbs; v->name; v++)
		printf("  %-12s %s\n", v->name, v->help);
	puts("\nknarr VERB --help has the verb's options. Without --socket the service's user socket is used, and\n"
	     "where no service runs, a private knarrd for as long as commands run.");
}

int cli_connect(struct cli *cli, struct err *e)
{
	return cli->client ? 0 : client_open(&cli->client, &cli->settings, cli->call, e);
}

void cli_disconnect(struct cli *cli)
{
	client_close(cli->client);
	cli->client = NULL;
}

int cli_start_status(const struct err *e)
{
	if (e->kind == ERR_NOT_FOUND)
		return CLI_NOT_FOUND;
	return e->kind == ERR_DENIED ? CLI_NOT_EXECUTABLE : CLI_FAILED;
}

int cli_options(struct cli *cli, const char *verb, const struct opt *opts, int flags, char *const *argv,
		char ***words, struct err *e)
{
	for (char *const *p = argv + 1; *p && **p == '-' && !streq(*p, "--"); p++)
		if (streq(*p, "--help") || streq(*p, "-h")) {
			printf("%s\n\nusage: knarr %s %s\n%s", current->help, verb, current->args,
			       opts->kind ? "\n" : "");
			fputs(opts_help(cli->a, opts), stdout);
			return 1;
		}
	if (opts_parse(cli->a, opts, flags, argv, words, e) < 0)
		return err_in(e, "knarr %s", verb);
	return 0;
}

int cli_one_word(char *const *words, const char *what, const char **out, struct err *e)
{
	if (!words[0])
		return err_set(e, ERR_INVALID, "knarr %s: %s is missing: knarr %s %s", current->name, what,
			       current->name, current->args);
	if (words[1])
		return err_set(e, ERR_INVALID, "knarr %s: \"%s\" is one word too many: knarr %s %s", current->name,
			       words[1], current->name, current->args);
	*out = words[0];
	return 0;
}

int cli_no_words(char *const *words, struct err *e)
{
	return words[0] ? err_set(e, ERR_INVALID, "knarr %s: \"%s\" is one word too many", current->name, words[0]) : 0;
}

int cli_run_verb(struct cli *cli, const struct verb *v, char *const *argv, struct err *e)
{
	current = v;
	return v->run(cli, argv, e);
}

static const struct verb *verb_named(const char *name)
{
	for (const struct verb *v = cli_verbs; v->name; v++)
		if (streq(v->name, name))
			return v;
	return NULL;
}

/* A private knarrd works in "/". */
static int absolute(struct arena *a, const char **path, struct err *e)
{
	char cwd[PATH_MAX];

	if (**path == '/')
		return 0;
	if (!getcwd(cwd, sizeof(cwd)))
		return err_sys(e, errno, "the current folder");
	*path = path_join(a, cwd, *path);
	return 0;
}

/* Messages name things by their whole IDs; a person needs twelve digits of them. */
static void print_error(const char *text)
{
	const char *p = text;

	fputs("knarr: ", stderr);
	while (*p) {
		size_t n = strspn(p, "0123456789abcdef");
		bool is_id = n == ID_HEX_LEN && !(p > text && p[-1] == ':'); /* a digest stays whole */

		fwrite(p, 1, is_id ? 12 : MAX(n, (size_t)1), stderr);
		p += MAX(n, (size_t)1);
	}
	fputc('\n', stderr);
}

int cli_fail(const struct err *e, int status)
{
	print_error(e->msg);
	return status;
}

static int run_verb(struct cli *cli, char *const *argv, struct err *e)
{
	bool want_help = false, want_version = false;
	const struct opt opts[] = {
		{ OPT_STR, 0, "socket", &cli->settings.socket, "PATH", "knarrd's socket" },
		{ OPT_STR, 0, "config", &cli->settings.config, "FILE", "configuration of a private knarrd" },
		{ OPT_FLAG, 'h', "help", &want_help, NULL, "This page" },
		{ OPT_FLAG, 0, "version", &want_version, NULL, "The version" },
		{ 0 },
	};
	char **words;

	if (opts_parse(cli->a, opts, OPTS_STOP_AT_WORD, argv, &words, e) < 0)
		return -1;
	if (cli->settings.config && absolute(cli->a, &cli->settings.config, e) < 0)
		return -1;
	if (want_version) {
		puts("knarr " KNARR_VERSION);
		return 0;
	}
	if (want_help || !words[0] || streq(words[0], "help")) {
		help();
		return words[0] || want_help ? 0 : CLI_FAILED;
	}
	current = verb_named(words[0]);
	if (!current)
		return err_set(e, ERR_INVALID, "there is no verb \"%s\"; knarr --help has them all", words[0]);
	return current->run(cli, words, e);
}

int main(int argc, char **argv)
{
	auto_arena a = { 0 };
	auto_call call;
	struct cli cli = { .a = &a, .call = &call };
	struct err e = { 0 };
	int rc;

	(void)argc;
	call_begin(&call, 0);
	log_configure(LOG_WARN, LOG_TEXT, STDERR_FILENO);
	(void)signal(SIGPIPE, SIG_IGN); /* a write that fails says so */
	rc = run_verb(&cli, argv, &e);
	cli_disconnect(&cli);
	/* Who reads no more (head, a pager that was left) needs no sentence about it. */
	if (rc < 0 && e.sys == EPIPE)
		return CLI_NO_READER;
	if (rc < 0)
		return cli_fail(&e, CLI_FAILED);
	if ((fflush(stdout) != 0 || ferror(stdout)) && rc == 0)
		return errno == EPIPE ? CLI_NO_READER : cli_fail((err_sys(&e, errno, "write to stdout"), &e), CLI_FAILED);
	return rc;
}
