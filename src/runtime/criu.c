#include "runtime/criu.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* What criu runs itself (iptables, nft, tar for tmpfs) lies on it, too. */
#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
enum { CRIU_LOG_MAX = 16 << 20 };

static const char *search_path(void)
{
	const char *path = getenv("PATH");

	return str_is_empty(path) ? PATH_DEFAULT : path;
}

int criu_find(struct arena *a, const char *named, const char **out, struct err *e)
{
	struct str rest = str_of(search_path());

	if (!str_is_empty(named)) {
		if (access(named, X_OK) < 0)
			return err_set(e, ERR_UNAVAILABLE, "criu: %s: %s", named, err_errno_text(errno));
		*out = named;
		return 0;
	}
	while (rest.p) {
		struct str dir = str_cut(&rest, ':');
		const char *path = arena_printf(a, "%.*s/criu", STR_ARG(dir));

		if (dir.len && dir.p[0] == '/' && access(path, X_OK) == 0) {
			*out = path;
			return 0;
		}
	}
	return err_set(e, ERR_UNAVAILABLE, "criu is not installed: no program of that name in %s", search_path());
}

/* The first error in criu's log is the cause; those after it are its consequences. What its look at the kernel's
 * abilities meets is none. */
static bool is_cause(struct str line)
{
	return memmem(line.p, line.len, "Error (", 7) && !memmem(line.p, line.len, "criu/tun.c:", 11) &&
	       !memmem(line.p, line.len, "criu/kerndat.c:", 15) && !memmem(line.p, line.len, "rlimit: ", 8);
}

static void say_why(struct arena *a, const struct criu_job *job, struct err *e)
{
	struct str text, line;
	struct err ignored;
	const char *path;

	if (!job->log_dir)
		return;
	path = path_join(a, job->log_dir, job->log_file);
	if (fs_read_file(a, AT_FDCWD, path, CRIU_LOG_MAX, &text, &ignored) < 0)
		return;
	while (text.p) {
		line = str_cut(&text, '\n');
		if (is_cause(line)) {
			const char *was = arena_strdup(a, e->msg);

			(void)err_set(e, e->kind, "%s: %.*s (the whole log: %s)", was, (int)MIN(line.len, 500), line.p, path);
			return;
		}
	}
}

static int spawn(struct arena *a, const struct criu_job *job, int sock, struct proc *out, struct err *e)
{
	char *const argv[] = { "criu", "swrk", "3", NULL };
	char *envp[] = { arena_printf(a, "PATH=%s", search_path()), NULL };
	struct proc_spec spec = PROC_SPEC_INIT;

	spec.file = job->program;
	spec.argv = argv;
	spec.envp = envp;
	spec.std_in = job->std[0];
	spec.std_out = job->std[1];
	spec.std_err = job->std[2];
	spec.mount_ns_fd = job->mount_ns_fd;
	spec.fds[0].from = sock;
	spec.fds[0].to = CRIU_SOCKET_FD;
	for (size_t i = 0; i < job->nfds; i++) {
		spec.fds[1 + i].from = job->fds[i];
		spec.fds[1 + i].to = CRIU_FD_FIRST + (int)i;
	}
	spec.nfds = 1 + job->nfds;
	return proc_spawn(&spec, out, e);
}

static int send_request(int sock, const struct criu_request *r, struct err *e)
{
	auto_buf b = BUF(CRIU_PACKET_MAX);

	if (criu_request_write(&b, r, e) < 0)
		return -1;
	return fd_send_msg(sock, b.p, b.len, NULL, 0, e) < 0 ? err_in(e, "criu") : 0;
}

static int receive(struct arena *a, int sock, struct criu_response *out, int *fd, struct err *e)
{
	char *packet = arena_alloc(a, 65536);
	size_t nfds = 1;
	ssize_t n = fd_recv_msg(sock, packet, 65536, fd, &nfds, e);

	if (!nfds)
		*fd = -1;
	if (n < 0)
		return err_in(e, "criu");
	if (n == 0)
		return err_set(e, ERR_INTERNAL, "criu ended without an answer");
	return criu_response_read(a, (struct str){ packet, (size_t)n }, out, e);
}

static int converse(struct arena *a, const struct criu_job *job, int sock, struct criu_response *out, struct err *e)
{
	struct criu_request go_on = { .type = CRIU_NOTIFY, .notified = true };
	struct criu_response r;

	if (send_request(sock, &job->request, e) < 0)
		return -1;
	for (;;) {
		auto_fd int fd = -1;

		if (receive(a, sock, &r, &fd, e) < 0)
			return -1;
		if (!r.success && r.type != CRIU_NOTIFY)
			return err_set(e, r.error == ESRCH ? ERR_NOT_FOUND : ERR_INTERNAL, "criu failed%s%s",
				       r.error ? ": " : "", r.error ? err_errno_text(r.error) : "");
		if (r.type != CRIU_NOTIFY)
			break;
		log_debug("criu says script=%s pid=%d", r.script, r.script_pid);
		if ((job->notify && job->notify(job->ctx, &r, fd, e) < 0) || send_request(sock, &go_on, e) < 0)
			return -1;
	}
	if (r.type != (int)job->request.type)
		return err_set(e, ERR_DATA_LOSS, "criu answered another request (%d)", r.type);
	*out = r;
	return 0;
}

int criu_run(struct arena *a, const struct criu_job *job, struct criu_response *out, struct err *e)
{
	auto_fd int ours = -1, theirs = -1;
	struct proc_exit end = { 0 };
	struct proc p = { 0, -1 };
	struct err ignored;
	auto_call c = { 0 };
	int pair[2], rc;

	if (job->nfds > CRIU_FDS_MAX)
		return err_set(e, ERR_EXHAUSTED, "too many fds for criu");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	if (spawn(a, job, theirs, &p, e) < 0)
		return err_in(e, "criu");
	fd_close(&theirs);
	rc = job->born ? job->born(job->ctx, p.pid, e) : 0;
	if (rc == 0)
		rc = converse(a, job, ours, out, e);
	fd_close(&ours);
	call_begin(&c, 0);
	if (proc_wait(&c, &p, &end, &ignored) < 0)
		proc_kill_and_reap(&p);
	fd_close(&p.pidfd);
	/* A pre-dump's criu waits for more and is told by our end of the socket that none comes. */
	if (rc == 0 && end.code && job->request.type != CRIU_PRE_DUMP)
		rc = err_set(e, ERR_INTERNAL, "criu ended with %d", end.code);
	if (rc < 0)
		say_why(a, job, e);
	return rc;
}

static int ask(struct arena *a, const char *program, const struct criu_request *request, struct criu_response *out,
	       struct err *e)
{
	struct criu_job job = CRIU_JOB_INIT;

	job.program = program;
	job.request = *request;
	return criu_run(a, &job, out, e);
}

int criu_need_version(struct arena *a, const char *program, int major, int minor, struct err *e)
{
	struct criu_request request = { .type = CRIU_VERSION };
	struct criu_response r;

	if (ask(a, program, &request, &r, e) < 0)
		return err_in(e, "%s", program);
	if (r.version_major < major || (r.version_major == major && r.version_minor < minor))
		return err_set(e, ERR_UNAVAILABLE, "%s is CRIU %d.%d: %d.%d or newer is needed", program, r.version_major,
			       r.version_minor, major, minor);
	return 0;
}

int criu_need_feature(struct arena *a, const char *program, unsigned feature, struct err *e)
{
	struct criu_request request = { .type = CRIU_FEATURE_CHECK, .features = feature };
	struct criu_response r;

	if (ask(a, program, &request, &r, e) < 0)
		return err_in(e, "%s", program);
	if ((r.features & feature) != feature)
		return err_set(e, ERR_UNIMPLEMENTED, "%s or this kernel has no %s", program,
			       feature & CRIU_FEATURE_LAZY_PAGES ? "lazy pages (userfaultfd)" : "tracking of memory (soft-dirty pages)");
	return 0;
}

int criu_cgroups_parse(const char *word, int32_t *out, struct err *e)
{
	static const struct {
		const char *word;
		int32_t mode;
	} modes[] = {
		{ "", CRIU_CGROUPS_DEFAULT }, { "soft", CRIU_CGROUPS_SOFT }, { "full", CRIU_CGROUPS_FULL },
		{ "strict", CRIU_CGROUPS_STRICT }, { "ignore", CRIU_CGROUPS_IGNORE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (streq(modes[i].word, word ? word : "")) {
			*out = modes[i].mode;
			return 0;
		}
	return err_set(e, ERR_INVALID, "--manage-cgroups-mode: \"%s\" is not soft, full, strict or ignore", word);
}
