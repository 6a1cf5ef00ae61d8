#include "image/unpack.h"

#include "base/fs.h"
#include "image/unpack_report.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/xattr.h>
#include <unistd.h>

static const struct unpack_limits default_limits = {
	.max_bytes = UINT64_C(64) << 30, .max_entries = 4000000, .max_ratio = 2000,
};

static char *number(struct arena *a, uint64_t given, uint64_t otherwise)
{
	return arena_printf(a, "%llu", (unsigned long long)(given ? given : otherwise));
}

static int spawn(const struct unpack_spec *spec, int source, int result, struct proc *out, struct err *e)
{
	const struct unpack_limits *l = &spec->limits, *d = &default_limits;
	auto_arena a = { 0 };
	char *argv[] = {
		(char *)spec->program,
		"--format", arena_printf(&a, "%d", (int)spec->format),
		"--max-bytes", number(&a, l->max_bytes, d->max_bytes),
		"--max-entries", number(&a, l->max_entries, d->max_entries),
		"--max-ratio", number(&a, l->max_ratio, d->max_ratio),
		NULL,
	};
	struct proc_spec p = PROC_SPEC_INIT;

	p.file = spec->program;
	p.argv = argv;
	p.std_in = source;
	p.std_err = STDERR_FILENO;
	p.fds[0].from = spec->dest_fd;
	p.fds[0].to = UNPACK_FD_DEST;
	p.fds[1].from = result;
	p.fds[1].to = UNPACK_FD_RESULT;
	p.nfds = 2;
	p.flags = PROC_NEW_SESSION;
	p.new_namespaces = CLONE_NEWPID;
	p.parent_death_signal = SIGKILL;
	return proc_spawn(&p, out, e);
}

int unpack_start(const struct unpack_spec *spec, struct unpack *u, int *bytes_fd, struct err *e)
{
	auto_fd int read_end = -1, write_end = -1, result_read = -1, result_write = -1;
	struct proc proc;

	if (spec->source_fd < 0) {
		if (fd_pipe(&read_end, &write_end, e) < 0)
			return -1;
		/* A refusal (the user's pipe pages are used up) costs only speed. */
		(void)fcntl(write_end, F_SETPIPE_SZ, 1024 * 1024);
	}
	if (fd_pipe(&result_read, &result_write, e) < 0 ||
	    spawn(spec, spec->source_fd < 0 ? read_end : spec->source_fd, result_write, &proc, e) < 0)
		return err_in(e, "unpack %s", spec->name);
	*u = (struct unpack){ .name = spec->name, .proc = proc, .result_fd = fd_take(&result_read) };
	*bytes_fd = fd_take(&write_end);
	return 0;
}

static void forget(struct unpack *u)
{
	fd_close(&u->result_fd);
	fd_close(&u->proc.pidfd);
	u->proc.pid = 0;
}

void unpack_kill(struct unpack *u)
{
	if (u->proc.pid <= 0)
		return;
	proc_kill_and_reap(&u->proc);
	forget(u);
}

/* Everything up to the end: it closes its pipe when it exits. */
static int read_report(struct call *c, struct unpack *u, struct buf *b, struct err *e)
{
	for (;;) {
		char bytes[4096];
		ssize_t n;

		if (io_wait(c, u->result_fd, POLLIN, e) < 0)
			return -1;
		n = read(u->result_fd, bytes, sizeof(bytes));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "read the result of unpacking");
		if (n == 0)
			return 0;
		if (buf_add(b, bytes, (size_t)n, e) < 0)
			return -1;
	}
}

static int report_of(const struct unpack *u, const struct proc_exit *ended, const struct buf *b, struct arena *a,
		     struct unpack_result *out, struct err *e)
{
	struct unpack_report r = { 0 };

	if (!b->len)
		return err_set(e, ERR_INTERNAL, "unpack %s: knarr-unpack ended without a result (%s %d)", u->name,
			       ended->signal ? "signal" : "exit code", ended->signal ? ended->signal : ended->code);
	if (json_load(a, buf_str(b), unpack_report_fields, 0, &r, e) < 0)
		return err_in(e, "unpack %s: knarr-unpack's result", u->name);
	if (r.error || ended->code)
		return err_set(e, r.error_kind && r.error_kind < ERR_KIND_COUNT ? (enum err_kind)r.error_kind : ERR_INTERNAL,
			       "unpack %s: %s", u->name, r.error ? r.error : "knarr-unpack failed");
	if (!r.result.diff_id || !r.result.format)
		return err_set(e, ERR_INTERNAL, "unpack %s: knarr-unpack's result is not whole", u->name);
	*out = r.result;
	return 0;
}

/* The list comes from a program that met hostile bytes: it is not trusted with paths either. */
static int mark_opaque(int dest_fd, char *const *folders, struct err *e)
{
	for (size_t i = 0; folders && folders[i]; i++) {
		auto_fd int fd = -1;

		if (streq(folders[i], "."))
			continue; /* the lowest of an overlay's roots counts: see LAYER_OPAQUE_ROOT */
		fd = path_open_beneath(dest_fd, folders[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, e);
		if (fd < 0) {
			if (e->kind == ERR_NOT_FOUND || e->sys == ENOTDIR || e->sys == ELOOP)
				continue; /* a later entry took its place */
			return -1;
		}
		if (fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
			return err_sys(e, errno, "mark %s opaque", folders[i]);
	}
	return 0;
}

int unpack_wait(struct call *c, struct unpack *u, int dest_fd, struct arena *a, struct unpack_result *out,
		struct err *e)
{
	auto_buf b = BUF(UNPACK_REPORT_MAX);
	struct unpack_result result;
	struct proc_exit ended;

	if (read_report(c, u, &b, e) < 0 || proc_wait(c, &u->proc, &ended, e) < 0) {
		unpack_kill(u);
		return -1;
	}
	forget(u);
	if (report_of(u, &ended, &b, a, &result, e) < 0)
		return -1;
	if (mark_opaque(dest_fd, result.opaque, e) < 0)
		return err_in(e, "unpack %s", u->name);
	*out = result;
	return 0;
}
