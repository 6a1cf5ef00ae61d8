#include "cli/client.h"

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
#define START_LOCK "/run/knarr/start.lock"

enum { START_LIMIT_S = 20 };

struct client {
	struct client_settings settings;
	const char *socket;
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

/* knarrd beside this program, as installed or in a build; else by PATH. */
static const char *knarrd_program(struct arena *a, const struct client_settings *s)
{
	char self[4096];
	ssize_t n;

	if (s->knarrd)
		return s->knarrd;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		static const char *const beside[] = { "knarrd", "../sbin/knarrd", "../daemon/knarrd" };
		char *folder = arena_strndup(a, self, (size_t)n);

		*strrchr(folder, '/') = '\0';
		for (size_t i = 0; i < ARRAY_SIZE(beside); i++) {
			char *path = path_join(a, folder, beside[i]);

			if (access(path, X_OK) == 0)
				return path;
		}
	}
	return "/usr/sbin/knarrd";
}

/* Commands that begin at the same time start one knarrd: the first to take the lock does. The lock
 * is given back once it answers. */
static int start_private(struct client *cl, struct call *c, struct err *e)
{
	auto_fd int lock = -1;
	int64_t give_up = clock_mono_ns() + START_LIMIT_S * NS_PER_S;
	const char *program = knarrd_program(&c->arena, &cl->settings);
	char *argv[] = { (char *)program, "--private", NULL, NULL, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc proc;

	if (fs_mkdirs(AT_FDCWD, "/run/knarr", 0700, e) < 0)
		return -1;
	lock = fd_open(AT_FDCWD, START_LOCK, O_RDWR | O_CREAT, e);
	if (lock < 0)
		return -1;
	while (flock(lock, LOCK_EX | LOCK_NB) < 0)
		if (call_sleep(c, 10 * NS_PER_MS, e) < 0)
			return -1;
	if (connect_now(cl, e) == 0)
		return 0;
	if (cl->settings.config) {
		argv[2] = "--config";
		argv[3] = (char *)cl->settings.config;
	}
	spec.file = program;
	spec.argv = argv;
	spec.envp = environ;
	spec.std_err = STDERR_FILENO;
	spec.flags = PROC_NEW_SESSION;
	if (proc_spawn(&spec, &proc, e) < 0)
		return err_in(e, "start a private knarrd");
	while (connect_now(cl, e) < 0) {
		struct proc_exit ended;

		if (proc_pidfd_is_dead(proc.pidfd)) {
			(void)proc_wait(c, &proc, &ended, e);
			fd_close(&proc.pidfd);
			return err_set(e, ERR_UNAVAILABLE, "the private knarrd ended at once; it said why above");
		}
		if (clock_mono_ns() > give_up) {
			fd_close(&proc.pidfd);
			return err_set(e, ERR_UNAVAILABLE, "the private knarrd does not answer on %s", cl->socket);
		}
		if (call_sleep(c, 5 * NS_PER_MS, e) < 0)
			return -1;
	}
	fd_close(&proc.pidfd);
	return 0;
}

static int connect_somehow(struct client *cl, struct call *c, struct err *e)
{
	if (connect_now(cl, e) == 0)
		return 0;
	if (cl->settings.socket) {
		if (nobody_there(e))
			return err_set(e, ERR_UNAVAILABLE, "no knarrd answers on %s: is it running?", cl->socket);
		return -1;
	}
	if (e->kind == ERR_DENIED || geteuid() != 0)
		return err_set(e, ERR_DENIED, "knarr needs root: %s", cl->socket);
	return nobody_there(e) ? start_private(cl, c, e) : -1;
}

int client_open(struct client **out, const struct client_settings *s, struct call *c, struct err *e)
{
	struct client *cl = mem_new0(struct client);

	cl->settings = *s;
	cl->socket = s->socket ? s->socket : USER_SOCKET;
	cl->fd = -1;
	if (connect_somehow(cl, c, e) < 0) {
		client_close(cl);
		return -1;
	}
	*out = cl;
	return 0;
}

void client_close(struct client *cl)
{
	disconnect(cl);
	mem_free(cl);
}

/* What may be asked twice: all but what starts something that runs at once. RunPodSandbox and
 * CreateContainer join the work that is under way under the same name. */
static bool may_repeat(const char *path)
{
	return !ends_with(path, "/ExecSync") && !ends_with(path, "/StartContainer");
}

static int exchange(struct client *cl, struct call *c, const struct grpc_exchange *x, ProtobufCMessage **out,
		    struct err *e)
{
	int rc = grpc_client_call(cl->grpc, cl->fd, c, x, out, e);

	/* One knarrd hands over to another, or it was started again: go on with the next. */
	for (int again = 0; rc < 0 && e->kind == ERR_UNAVAILABLE && again < 50 && may_repeat(x->path); again++) {
		struct err ignored;

		disconnect(cl);
		if (call_sleep(c, again ? 100 * NS_PER_MS : 0, e) < 0)
			return -1;
		if (connect_now(cl, &ignored) < 0 && (cl->settings.socket || connect_somehow(cl, c, &ignored) < 0))
			continue;
		rc = grpc_client_call(cl->grpc, cl->fd, c, x, out, e);
	}
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
