#include "net/plugin.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/proc.h"
#include "spec/cni_result.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STDERR_MAX = 8192, SAID_MAX = 300, TRIES = 4 };

extern char **environ;

char **plugin_base_env(struct arena *a)
{
	static const char *const ours[] = { "CNI_", "NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "JOURNAL_STREAM=",
					    "INVOCATION_ID=", "CREDENTIALS_DIRECTORY=" };
	char **out = arena_newn0(a, char *, strv_len(environ) + 2);
	bool has_path = false;
	size_t n = 0;

	for (char **v = environ; v && *v; v++) {
		bool keep = true;

		for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
			keep &= !starts_with(*v, ours[i]);
		if (keep)
			out[n++] = arena_strdup(a, *v);
		has_path |= starts_with(*v, "PATH=");
	}
	if (!has_path) /* plugins find iptables and nft by it */
		out[n] = arena_strdup(a, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	return out;
}

int plugin_find(struct arena *a, char *const *bin_dirs, const char *type, const char **path, struct err *e)
{
	auto_buf searched = BUF(65536);

	for (char *const *d = bin_dirs; *d; d++) {
		char *candidate = path_join(a, *d, type);
		struct stat st;

		if (stat(candidate, &st) == 0 && S_ISREG(st.st_mode) && access(candidate, X_OK) == 0) {
			*path = candidate;
			return 0;
		}
		if (buf_addf(&searched, e, "%s%s", d == bin_dirs ? "" : ", ", *d) < 0)
			return -1;
	}
	return err_set(e, ERR_NOT_FOUND, "CNI plugin %s is not installed (looked in %s)", type, buf_text(&searched));
}

static char **task_env(struct arena *a, const struct plugin_place *place, const struct plugin_task *t)
{
	size_t n = strv_len(place->base_env);
	char **env = arena_newn0(a, char *, n + 7);

	memcpy(env, place->base_env, n * sizeof(*env));
	env[n++] = arena_printf(a, "CNI_COMMAND=%s", t->command);
	env[n++] = arena_printf(a, "CNI_CONTAINERID=%s", t->pod_id);
	env[n++] = arena_printf(a, "CNI_NETNS=%s", t->netns);
	env[n++] = arena_printf(a, "CNI_IFNAME=%s", t->interface);
	env[n++] = arena_printf(a, "CNI_ARGS=%s", t->args);
	env[n] = arena_printf(a, "CNI_PATH=%s", place->bin_path);
	return env;
}

/* The beginning of what a plugin printed, as one line of clean text. */
static const char *said(struct arena *a, const struct buf *b)
{
	size_t n = MIN(b->len, (size_t)SAID_MAX);
	char *text = arena_alloc0(a, n + 1);
	struct str trimmed;

	for (size_t i = 0; i < n; i++)
		text[i] = (unsigned char)b->p[i] < ' ' || b->p[i] == 0x7f ? ' ' : b->p[i];
	trimmed = str_trim(str_of(text));
	return utf8_clean(a, str_dup(a, trimmed));
}

static int refused(struct arena *a, const struct cni_error *x, struct err *e)
{
	bool later = x->code == CNI_ERROR_TRY_AGAIN || x->code == CNI_ERROR_NOT_AVAILABLE ||
		     x->code == CNI_ERROR_LIMITED;

	return err_set(e, later ? ERR_UNAVAILABLE : ERR_SYSTEM, "%s%s%s (code %u)",
		       utf8_clean(a, *x->msg ? x->msg : "no message"), *x->details ? ": " : "",
		       utf8_clean(a, x->details), x->code);
}

/* What its end means; *again: it asked for another try. */
static int judge(struct arena *a, const struct proc_output *end, const struct buf *out, const struct buf *err_out,
		 bool *again, struct err *e)
{
	struct cni_error x;
	struct err ignored;
	const char *text;

	if (end->exit.signal)
		return err_set(e, ERR_SYSTEM, "it was killed by signal %d (%s)%s%s", end->exit.signal,
			       sigabbrev_np(end->exit.signal) ? sigabbrev_np(end->exit.signal) : "?",
			       err_out->len ? ": " : "", said(a, err_out));
	if (out->len == out->max && end->cut)
		return err_set(e, ERR_SYSTEM, "it printed more than %zu KiB", out->max / 1024);
	if (end->exit.code == 0)
		return 0;
	if (cni_error_parse(a, buf_str(out), &x, &ignored) == 0) {
		*again = x.code == CNI_ERROR_TRY_AGAIN;
		return refused(a, &x, e);
	}
	text = said(a, err_out->len ? err_out : out);
	return err_set(e, ERR_SYSTEM, "it ended with exit code %d%s%s", end->exit.code,
		       *text ? " and said: " : " and said nothing", text);
}

/* proc_run() under the plugin's own time limit, which is the call's for so long. */
static int run_limited(const struct plugin_place *place, struct call *c, struct proc_spec *spec, struct str in,
		       struct buf *out, struct buf *err_out, struct proc_output *end, struct err *e)
{
	int64_t calls = c->deadline_ns, ours = clock_mono_ns() + place->timeout_ns;
	bool limited = place->timeout_ns > 0 && (calls == 0 || ours < calls);
	int rc;

	if (limited)
		c->deadline_ns = ours;
	rc = proc_run(c, spec, in, out, err_out, end, e);
	c->deadline_ns = calls;
	if (rc < 0 && limited && e->kind == ERR_TIMEOUT)
		return err_set(e, ERR_TIMEOUT, "it did not end within %lld s and was killed%s%s",
			       (long long)(place->timeout_ns / NS_PER_S), err_out->len ? "; it had said: " : "",
			       said(&c->arena, err_out));
	return rc;
}

static int run_once(const struct plugin_place *place, struct call *c, const struct plugin_task *t, const char *file,
		    struct str in, struct str *out, bool *again, struct err *e)
{
	auto_buf printed = BUF(CNI_RESULT_MAX), err_out = BUF(STDERR_MAX);
	char *argv[] = { (char *)file, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc_output end;

	spec.file = file;
	spec.argv = argv;
	spec.envp = task_env(&c->arena, place, t);
	/* Its parent is this thread, which stays here until it has ended: so it dies with the daemon,
	 * and not before. Its own children are found by net_open() (orphans.h). */
	spec.parent_death_signal = SIGKILL;
	if (run_limited(place, c, &spec, in, &printed, &err_out, &end, e) < 0 ||
	    judge(&c->arena, &end, &printed, &err_out, again, e) < 0)
		return -1;
	*out = (struct str){ arena_strndup(&c->arena, buf_text(&printed), printed.len), printed.len };
	return 0;
}

int plugin_run(const struct plugin_place *place, struct call *c, const struct plugin_task *t, size_t index,
	       const struct json *prev_result, struct str *out, struct err *e)
{
	static const int64_t pause_ns[TRIES - 1] = { 100 * NS_PER_MS, 300 * NS_PER_MS, 900 * NS_PER_MS };
	auto_buf in = BUF(4 * CNI_CONF_MAX);
	const char *type = t->conf->plugins[index].type, *file;
	struct err ignored;

	if (plugin_find(&c->arena, place->bin_dirs, type, &file, e) < 0)
		return err_in(e, "%s of network %s", t->command, t->conf->name);
	if (cni_conf_print(&in, t->conf, index, prev_result, t->capabilities, e) < 0)
		return -1;
	for (int try = 0; ; try++) {
		bool again = false;

		if (run_once(place, c, t, file, buf_str(&in), out, &again, e) == 0)
			return 0;
		if (!again || try == TRIES - 1 || call_sleep(c, pause_ns[try], &ignored) < 0)
			return err_in(e, "CNI plugin %s, %s of network %s", type, t->command, t->conf->name);
	}
}
