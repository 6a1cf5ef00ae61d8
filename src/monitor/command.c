#include "monitor/command.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "monitor/state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOG_MAX = 1 << 20, PID_TEXT_MAX = 64 };

/* --- SETUP ------------------------------------------------------------------------------------------------------ */

static int namespaces_take(struct pod *p, struct request *r, struct err *e)
{
	struct handler *h = &p->handler;
	struct str rest = r->m.fields;
	struct message_field f;

	if (request_need_fd(r, TAG_HANDLER_DIR_FD, "runtime's folder", &h->dir_fd, e) < 0 ||
	    request_need_fd(r, TAG_HANDLER_MOUNT_NS_FD, "runtime's mount namespace", &h->mount_ns_fd, e) < 0)
		return -1;
	while (message_next(&rest, &f)) {
		if (f.tag == TAG_HANDLER_ARG)
			h->args = strv_append(&h->arena, h->args, arena_strndup(&h->arena, f.bytes.p, f.bytes.len));
		if (f.tag != TAG_HANDLER_NS_FD)
			continue;
		if (h->nns_fds == COMMAND_NS_MAX)
			return err_set(e, ERR_INVALID, "SETUP with too many namespaces of the runtime");
		if (request_take_fd(r, f.number, &h->ns_fds[h->nns_fds++], e) < 0)
			return -1;
	}
	return 0;
}

int handler_take(struct pod *p, struct request *r, struct err *e)
{
	const char *path = message_text(&r->m, TAG_HANDLER_PATH, ""), *root, *dir;
	struct handler *h = &p->handler;

	if (!*path)
		return 0;
	if (message_need_text(&r->m, TAG_HANDLER_ROOT, "root of the runtime", &root, e) < 0 ||
	    message_need_text(&r->m, TAG_HANDLER_DIR, "folder of the runtime", &dir, e) < 0 ||
	    namespaces_take(p, r, e) < 0)
		return -1;
	h->path = arena_strdup(&h->arena, path);
	h->root = arena_strdup(&h->arena, root);
	h->dir = arena_strdup(&h->arena, dir);
	return 0;
}

/* --- files ------------------------------------------------------------------------------------------------------ */

static const char *const suffixes[] = { "log", "pid", "json", "tty" };

static void name_of(char out[64], uint64_t number, const char *suffix)
{
	(void)snprintf(out, 64, "%llu.%s", (unsigned long long)number, suffix);
}

uint64_t command_number(struct pod *p)
{
	return ++p->command_count;
}

const char *command_path(struct arena *a, const struct pod *p, uint64_t number, const char *suffix)
{
	return arena_printf(a, "%s/%llu.%s", p->handler.dir, (unsigned long long)number, suffix);
}

static void files_remove(struct pod *p, uint64_t number)
{
	char name[64];

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		name_of(name, number, suffixes[i]);
		(void)unlinkat(p->handler.dir_fd, name, 0); /* most were never made; the rest goes with the pod */
	}
}

int command_pid(struct pod *p, const struct command *x, pid_t *out, struct err *e)
{
	auto_arena a = { 0 };
	char name[64];
	struct str text;
	int64_t pid;

	name_of(name, x->number, "pid");
	if (fs_read_file(&a, p->handler.dir_fd, name, PID_TEXT_MAX, &text, e) < 0 ||
	    str_to_i64(str_trim(text), &pid, e) < 0)
		return err_in(e, "%s does not tell the process's id", p->handler.path);
	if (pid <= 1 || pid > INT32_MAX)
		return err_set(e, ERR_INTERNAL, "%s tells %lld as a process's id", p->handler.path, (long long)pid);
	*out = (pid_t)pid;
	return 0;
}

/* --- terminals -------------------------------------------------------------------------------------------------- */

int command_console_open(struct arena *a, struct pod *p, uint64_t number, int *out, const char **path, struct err *e)
{
	auto_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char name[64];

	if (fd < 0)
		return err_sys(e, errno, "socket");
	name_of(name, number, "tty");
	(void)snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/%s", p->handler.dir_fd, name);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 1) < 0)
		return err_sys(e, errno, "bind the socket for a terminal");
	*path = command_path(a, p, number, "tty");
	/* An address has 107 bytes; by way of our own fd every folder is near. */
	if (strlen(*path) >= sizeof(at.sun_path))
		*path = arena_printf(a, "/proc/%d/fd/%d/%s", getpid(), p->handler.dir_fd, name);
	*out = fd_take(&fd);
	return 0;
}

int command_console_take(const struct command *x, int *out, struct err *e)
{
	auto_fd int conn = accept4(x->console, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	char bytes[256];
	int fds[1];
	size_t nfds = 1;

	if (conn < 0)
		return err_sys(e, errno, "the runtime has not sent the terminal");
	if (fd_recv_msg(conn, bytes, sizeof(bytes), fds, &nfds, e) < 0)
		return err_in(e, "the terminal");
	if (nfds != 1)
		return err_set(e, ERR_INTERNAL, "the runtime has sent no terminal");
	*out = fds[0];
	return 0;
}

/* --- a command's beginning -------------------------------------------------------------------------------------- */

static struct command *command_new(struct pod *p, struct err *e)
{
	for (size_t i = 0; i < COMMANDS_MAX; i++) {
		if (i < p->commands_top && p->commands[i].purpose != COMMAND_NONE)
			continue;
		p->commands_top = MAX(p->commands_top, i + 1);
		return &p->commands[i];
	}
	err_set(e, ERR_EXHAUSTED, "pod %s runs %d commands of its runtime already", p->id, COMMANDS_MAX);
	return NULL;
}

static char **argv_of(struct arena *a, const struct pod *p, const struct command_wish *w)
{
	const struct handler *h = &p->handler;
	const char *fixed[] = { "--root", h->root, "--log", command_path(a, p, w->number, "log"), "--log-format", "json" };
	size_t n = 1 + strv_len(h->args) + ARRAY_SIZE(fixed) + strv_len(w->words) + ARRAY_SIZE(w->last), at = 0;
	char **argv = arena_newn0(a, char *, n + 1);

	argv[at++] = (char *)h->path;
	for (size_t i = 0; i < strv_len(h->args); i++)
		argv[at++] = h->args[i];
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		argv[at++] = (char *)fixed[i];
	for (size_t i = 0; i < strv_len(w->words); i++)
		argv[at++] = w->words[i];
	for (size_t i = 0; i < ARRAY_SIZE(w->last) && w->last[i]; i++)
		argv[at++] = (char *)w->last[i];
	return argv;
}

int command_run(struct pod *p, const struct command_wish *w, struct command **out, struct err *e)
{
	static char *env[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	auto_fd int console = w->console;
	struct command *x = command_new(p, e);
	auto_arena a = { 0 };
	struct proc proc;

	if (!x)
		return -1;
	spec.file = p->handler.path;
	spec.argv = argv_of(&a, p, w);
	spec.envp = env;
	spec.std_in = w->in;
	spec.std_out = w->out;
	spec.std_err = w->err;
	spec.mount_ns_fd = p->handler.mount_ns_fd;
	spec.ns_fds = p->handler.ns_fds;
	spec.nns_fds = p->handler.nns_fds;
	spec.cgroup_fd = w->cgroup_fd;
	spec.flags = PROC_NEW_SESSION | PROC_OOM_SCORE_ZERO;
	spec.parent_death_signal = SIGKILL;
	if (proc_spawn(&spec, &proc, e) < 0)
		return -1;
	fd_close(&proc.pidfd); /* our child: its number is its own until we reap it */
	*x = (struct command){ .purpose = w->purpose, .pid = proc.pid, .number = w->number, .console = fd_take(&console),
			       .deadline_ns = clock_mono_ns() + w->patience_ns };
	*out = x;
	return 0;
}

/* --- its end ---------------------------------------------------------------------------------------------------- */

struct log_line {
	char *level, *msg;
};

static const struct json_field log_fields[] = {
	{ "level", JSON_STR, offsetof(struct log_line, level), JSON_OPTIONAL, NULL, 0 },
	{ "msg", JSON_STR, offsetof(struct log_line, msg), JSON_OPTIONAL, NULL, 0 },
	{ NULL, JSON_END, 0, 0, NULL, 0 },
};

/* The last error of the runtime's log, else its last line, "" where it has none. */
static const char *log_error(struct arena *a, struct str text)
{
	const char *last = "";
	bool error = false;

	while (text.p) {
		struct str line = str_trim(str_cut(&text, '\n'));
		struct log_line l = { 0 };
		struct err ignored;
		bool is_error;

		if (!line.len)
			continue;
		if (json_load(a, line, log_fields, 0, &l, &ignored) < 0 || str_is_empty(l.msg)) {
			if (!error)
				last = arena_strndup(a, line.p, line.len);
			continue;
		}
		is_error = l.level && (streq(l.level, "error") || streq(l.level, "fatal"));
		if (is_error || !error)
			last = l.msg;
		error |= is_error;
	}
	return last;
}

/* What the words of a runtime mean, as far as somebody acts upon it. */
static enum err_kind kind_of(const char *text)
{
	if (strcasestr(text, "no such file or directory") || strcasestr(text, "executable file"))
		return ERR_NOT_FOUND;
	if (strcasestr(text, "permission denied"))
		return ERR_DENIED;
	if (strcasestr(text, "memory limit") || strcasestr(text, "out of memory") || strcasestr(text, "cannot allocate memory"))
		return ERR_EXHAUSTED;
	return ERR_SYSTEM;
}

static void explain(struct pod *p, const struct command *x, int status, struct err *e)
{
	static const char *const verbs[] = { "", "create", "start", "delete", "kill", "exec" };
	const char *name = path_base(p->handler.path), *verb = verbs[x->purpose], *text = "";
	auto_arena a = { 0 };
	char file[64];
	struct str log;
	struct err ignored;

	name_of(file, x->number, "log");
	if (fs_read_file(&a, p->handler.dir_fd, file, LOG_MAX, &log, &ignored) == 0)
		text = log_error(&a, log);
	if (WIFSIGNALED(status))
		(void)err_set(e, ERR_SYSTEM, "%s %s was killed by signal %d%s%s", name, verb, WTERMSIG(status),
			      *text ? ": " : "", text);
	else if (*text)
		(void)err_set(e, kind_of(text), "%s %s: %s", name, verb, text);
	else
		(void)err_set(e, ERR_SYSTEM, "%s %s exits with %d and says nothing", name, verb, WEXITSTATUS(status));
}

static bool any_runs(const struct pod *p)
{
	for (size_t i = 0; i < p->commands_top; i++)
		if (p->commands[i].purpose != COMMAND_NONE)
			return true;
	return false;
}

bool command_child_ended(struct pod *p, pid_t pid, int status)
{
	for (size_t i = 0; i < p->commands_top; i++) {
		struct command x = p->commands[i];
		struct err failure;
		bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;

		if (x.purpose == COMMAND_NONE || x.pid != pid)
			continue;
		if (!ok)
			explain(p, &x, status, &failure);
		p->commands[i].pid = 0; /* the place stays taken until this one's files are gone */
		runner_command_ended(p, &x, ok ? NULL : &failure);
		fd_close(&x.console);
		files_remove(p, x.number);
		p->commands[i] = (struct command){ .purpose = COMMAND_NONE };
		if (!any_runs(p))
			p->orphans_next = 0;
		return true;
	}
	return false;
}

void command_orphan_ended(struct pod *p, pid_t pid, int status)
{
	if (any_runs(p))
		p->orphans[p->orphans_next++ % ORPHANS_MAX] = (struct orphan){ pid, status };
}

bool command_orphan(const struct pod *p, pid_t pid, int *status)
{
	for (size_t i = 0; i < MIN(p->orphans_next, (size_t)ORPHANS_MAX); i++)
		if (p->orphans[i].pid == pid) {
			*status = p->orphans[i].status;
			return true;
		}
	return false;
}

void command_time(struct pod *p, struct command *x)
{
	struct message_writer w;
	char space[256];

	if (x->purpose == COMMAND_KILL && x->conn) {
		/* It is on its way; who asked does not wait for a slow machine. */
		struct conn *conn = x->conn;

		x->conn = NULL;
		x->deadline_ns = clock_mono_ns() + KILL_PATIENCE_NS;
		message_begin(&w, space, sizeof(space), MONITOR_OP_KILL, MESSAGE_ANSWER);
		conn_send(p, conn, &w, NULL, 0);
		return;
	}
	if (x->pid > 0)
		(void)kill(x->pid, SIGKILL); /* our child, not reaped: the number is its */
}

void commands_forget_conn(struct pod *p, const struct conn *c)
{
	for (size_t i = 0; i < p->commands_top; i++)
		if (p->commands[i].conn == c)
			p->commands[i].conn = NULL;
}

void commands_forget_container(struct pod *p, const struct container *c)
{
	for (size_t i = 0; i < p->commands_top; i++)
		if (p->commands[i].container == c)
			p->commands[i].container = NULL;
}

void commands_kill_of(struct pod *p, const struct container *c)
{
	for (size_t i = 0; i < p->commands_top; i++) {
		const struct command *x = &p->commands[i];

		if (x->container == c && x->pid > 0 && (x->purpose == COMMAND_CREATE || x->purpose == COMMAND_START))
			(void)kill(x->pid, SIGKILL);
	}
}
