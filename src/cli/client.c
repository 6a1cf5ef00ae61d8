#include "cli/client.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "wire/grpc_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define USER_SOCKET "/run/knarr/user.sock"

enum {
	START_LIMIT_S = 20,
	HAND_OVER_TRIES = 200, /* of 100 ms: as long as a service may take to recover */
	KNARRD_ROOT_TAKEN = 2, /* knarrd(8), EXIT STATUS */
	LOG_TAIL = 64 * 1024,
};

struct client {
	struct client_settings settings;
	char *socket;
	struct grpc_client *grpc;
	int fd;
};

static void disconnect(struct client *cl)
{
	grpc_client_free(cl->grpc);
	cl->grpc = NULL;
	fd_close(&cl->fd);
}

static int connect_now(struct client *cl, struct err *e)
{
	disconnect(cl);
	cl->fd = grpc_client_connect(cl->socket, e);
	if (cl->fd < 0)
		return -1;
	cl->grpc = grpc_client_new();
	return 0;
}

/* Where nothing listens: no socket file, or one that a knarrd left behind. */
static bool nobody_there(const struct err *e)
{
	return e->kind == ERR_NOT_FOUND || e->kind == ERR_UNAVAILABLE;
}

/* knarrd beside this program, as installed or in a build; else where packages put it. */
static const char *knarrd_program(struct arena *a)
{
	static const char *const beside[] = { "knarrd", "../sbin/knarrd", "../daemon/knarrd" };
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash = n > 0 ? memrchr(self, '/', (size_t)n) : NULL;

	if (!slash)
		return "/usr/sbin/knarrd";
	*slash = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(beside); i++) {
		char *path = path_join(a, self, beside[i]);

		if (access(path, X_OK) == 0)
			return path;
	}
	return "/usr/sbin/knarrd";
}

/* --- which socket --------------------------------------------------------------------------------------- */

static char *last_line(struct arena *a, struct str text)
{
	struct str last = { 0 };

	while (text.p) {
		struct str line = str_cut(&text, '\n');

		if (line.len)
			last = line;
	}
	return str_dup(a, last);
}

/* knarrd's log lines begin with the time and the level; the rest is the sentence. */
static const char *log_sentence(struct arena *a, struct str log)
{
	const char *line = last_line(a, log), *error = strstr(line, " error ");

	return error ? error + strlen(" error ") : line;
}

/* The YAML is read by knarrd alone. */
int client_ask_knarrd(const struct client_settings *s, struct call *c, const char *key, struct str *out, struct err *e)
{
	const char *program = knarrd_program(&c->arena);
	char *argv[] = { (char *)program, "--print", (char *)key, NULL, NULL, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc_output result;
	auto_buf text = BUF(LOG_TAIL), said = BUF(LOG_TAIL);
	struct str line;

	if (s->config) {
		argv[3] = "--config";
		argv[4] = (char *)s->config;
	}
	spec.file = program;
	spec.argv = argv;
	if (proc_run(c, &spec, (struct str){ 0 }, &text, &said, &result, e) < 0)
		return err_in(e, "ask knarrd for its %s", key);
	if (result.exit.code)
		return err_set(e, ERR_INVALID, "%s",
			       log_sentence(&c->arena, (struct str){ said.p, said.len }));
	line = (struct str){ text.p, text.len };
	line = str_cut(&line, '\n');
	*out = (struct str){ str_dup(&c->arena, line), line.len };
	return 0;
}

static int socket_of_config(struct client *cl, struct call *c, struct err *e)
{
	struct str path;

	if (client_ask_knarrd(&cl->settings, c, "user_socket", &path, e) < 0)
		return -1;
	mem_free(cl->socket);
	cl->socket = mem_strdup(path.p);
	return 0;
}

/* --- a private knarrd --------------------------------------------------------------------------------------- */

static int spawn_private(struct client *cl, struct call *c, const char *log, struct proc *out, struct err *e)
{
	const char *program = knarrd_program(&c->arena);
	char *argv[] = { (char *)program, "--private", NULL, NULL, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	/* Not this command's stderr: who reads that to its end would wait for knarrd's. */
	auto_fd int log_fd = fd_create(AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600, e);

	if (log_fd < 0)
		return -1;
	if (cl->settings.config) {
		argv[2] = "--config";
		argv[3] = (char *)cl->settings.config;
	}
	spec.file = program;
	spec.argv = argv;
	spec.envp = environ;
	spec.std_err = log_fd;
	spec.flags = PROC_NEW_SESSION;
	return proc_spawn(&spec, out, e) < 0 ? err_in(e, "start a private knarrd") : 0;
}

/* Until it answers. One that ends since another has the root folder is no failure yet: that one's
 * socket comes in a moment. */
static int await_private(struct client *cl, struct call *c, const char *log, struct proc *proc, struct err *e)
{
	int64_t give_up = clock_mono_ns() + START_LIMIT_S * NS_PER_S;
	struct proc_exit ended = { 0 };
	bool lives = true;
	struct str text;

	while (connect_now(cl, e) < 0) {
		if (lives && proc_pidfd_is_dead(proc->pidfd)) {
			if (proc_wait(c, proc, &ended, e) < 0)
				return -1;
			lives = false;
		}
		if (!lives && ended.code != KNARRD_ROOT_TAKEN)
			give_up = 0;
		if (clock_mono_ns() > give_up && fs_read_file(&c->arena, AT_FDCWD, log, LOG_TAIL, &text, e) == 0)
			return err_set(e, ERR_UNAVAILABLE, "the private knarrd does not answer: %s (its log is %s)",
				       text.len ? log_sentence(&c->arena, text) : "it says nothing", log);
		if (clock_mono_ns() > give_up)
			return err_in(e, "the private knarrd does not answer");
		if (call_sleep(c, (lives ? 5 : 50) * NS_PER_MS, e) < 0)
			return -1;
	}
	return 0;
}

/* Commands that begin at the same time start one knarrd: the first to take the lock does. The lock
 * is given back once it answers. */
static int start_private(struct client *cl, struct call *c, struct err *e)
{
	auto_fd int lock = -1;
	const char *folder = path_clean(&c->arena, path_join(&c->arena, cl->socket, ".."));
	const char *log = path_join(&c->arena, folder, "private.log");
	struct proc proc;
	int rc;

	if (fs_mkdirs(AT_FDCWD, folder, 0711, e) < 0)
		return -1;
	lock = fd_open(AT_FDCWD, path_join(&c->arena, folder, "private.lock"), O_RDWR | O_CREAT, e);
	if (lock < 0)
		return -1;
	while (flock(lock, LOCK_EX | LOCK_NB) < 0)
		if (call_sleep(c, 10 * NS_PER_MS, e) < 0)
			return -1;
	if (connect_now(cl, e) == 0)
		return 0;
	if (spawn_private(cl, c, log, &proc, e) < 0)
		return -1;
	rc = await_private(cl, c, log, &proc, e);
	fd_close(&proc.pidfd);
	return rc;
}

static int connect_somehow(struct client *cl, struct call *c, struct err *e)
{
	const char *before;

	if (connect_now(cl, e) == 0)
		return 0;
	if (cl->settings.socket) {
		if (nobody_there(e))
			return err_set(e, ERR_UNAVAILABLE, "no knarrd answers on %s: is it running?", cl->socket);
		return e->kind == ERR_DENIED ? err_in(e, "knarr needs root") : -1;
	}
	if (e->kind == ERR_DENIED || (nobody_there(e) && geteuid() != 0))
		return err_set(e, ERR_DENIED, "knarr needs root: run it with sudo");
	if (!nobody_there(e))
		return -1;
	before = arena_strdup(&c->arena, cl->socket);
	if (!cl->settings.config && socket_of_config(cl, c, e) < 0)
		return -1;
	if (!streq(before, cl->socket) && connect_now(cl, e) == 0)
		return 0;
	return start_private(cl, c, e);
}

int client_open(struct client **out, const struct client_settings *s, struct call *c, struct err *e)
{
	struct client *cl = mem_new0(struct client);

	cl->settings = *s;
	cl->socket = mem_strdup(s->socket ? s->socket : USER_SOCKET);
	cl->fd = -1;
	if ((!s->socket && s->config && socket_of_config(cl, c, e) < 0) || connect_somehow(cl, c, e) < 0) {
		client_close(cl);
		return -1;
	}
	*out = cl;
	return 0;
}

void client_close(struct client *cl)
{
	if (!cl)
		return;
	disconnect(cl);
	mem_free(cl->socket);
	mem_free(cl);
}

/* --- calls -------------------------------------------------------------------------------------------------- */

/* What may be asked twice: all but what starts something that runs at once. RunPodSandbox and
 * CreateContainer join the work that is under way under the same name. */
static bool may_repeat(const char *path)
{
	return !ends_with(path, "/ExecSync") && !ends_with(path, "/OpenExec") && !ends_with(path, "/StartContainer");
}

/* One knarrd hands over to another, or is started again: waits for the next. */
static int reconnect(struct client *cl, struct call *c, struct err *e)
{
	for (int again = 0; again < HAND_OVER_TRIES; again++) {
		if (again && call_sleep(c, 100 * NS_PER_MS, e) < 0)
			return -1;
		if ((cl->settings.socket ? connect_now(cl, e) : connect_somehow(cl, c, e)) == 0)
			return 0;
		if (!nobody_there(e))
			return -1;
	}
	return err_set(e, ERR_UNAVAILABLE, "knarrd on %s went away and does not come back", cl->socket);
}

static int exchange(struct client *cl, struct call *c, const struct grpc_exchange *x, ProtobufCMessage **out,
		    struct err *e)
{
	int rc;

	do {
		if ((!cl->grpc || !grpc_client_is_open(cl->grpc)) && reconnect(cl, c, e) < 0)
			return -1;
		rc = grpc_client_call(cl->grpc, cl->fd, c, x, out, e);
	} while (rc < 0 && e->kind == ERR_UNAVAILABLE && !grpc_client_is_open(cl->grpc) && may_repeat(x->path));
	return rc;
}

int client_call(struct client *cl, struct call *c, const char *path, const ProtobufCMessage *in,
		const ProtobufCMessageDescriptor *type, ProtobufCMessage **out, struct err *e)
{
	struct grpc_exchange x = { .path = path, .request = (ProtobufCMessage *)in, .response = type };

	return exchange(cl, c, &x, out, e);
}

int client_stream(struct client *cl, struct call *c, const char *path, const ProtobufCMessage *in,
		  const ProtobufCMessageDescriptor *type,
		  int (*each)(void *ctx, const ProtobufCMessage *m, struct err *e), void *ctx, struct err *e)
{
	struct grpc_exchange x = { .path = path, .request = (ProtobufCMessage *)in, .response = type,
				   .message = each, .ctx = ctx };

	return exchange(cl, c, &x, NULL, e);
}
