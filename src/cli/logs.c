/* Container logs as knarr-pod writes them: "TIME STREAM TAG text", TAG F for a whole line, P for a part. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LOG_LINE_MAX = 1024 * 1024,
	READ_BYTES = 64 * 1024,
	READS_AT_ONCE = 8,
	OPEN_TRIES = 50,
	LOG_RECHECK_MS = 1000, /* in case inotify lost something, as over a network file system */
};

/* A rotation shows in the folder, more lines in the file. */
static void watch(struct log_reader *r)
{
	auto_arena a = { 0 };
	char *folder = path_join(&a, r->path, "..");

	if (inotify_add_watch(r->watch_fd, r->path, IN_MODIFY) >= 0 &&
	    inotify_add_watch(r->watch_fd, path_clean(&a, folder), IN_CREATE | IN_MOVED_TO) >= 0)
		return;
	fd_close(&r->watch_fd);
}

/* Between a rotation's rename and the new file there is none for a moment. */
static int open_file(const char *path, struct err *e)
{
	for (int i = 0;; i++) {
		int fd = fd_open(AT_FDCWD, path, O_RDONLY, e);

		if (fd >= 0 || e->kind != ERR_NOT_FOUND || i == OPEN_TRIES)
			return fd;
		(void)poll(NULL, 0, LOG_LOOK_MS);
	}
}

int log_reader_open(struct log_reader *r, const char *path, struct err *e)
{
	*r = (struct log_reader){ .fd = -1, .watch_fd = -1, .path = path, .pending = BUF(LOG_LINE_MAX) };
	r->fd = open_file(path, e);
	return r->fd < 0 ? -1 : 0;
}

void log_reader_watch(struct log_reader *r)
{
	r->watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (r->watch_fd >= 0)
		watch(r);
}

void log_reader_close(struct log_reader *r)
{
	fd_close(&r->fd);
	fd_close(&r->watch_fd);
	buf_free(&r->pending);
}

/* One whole line of the file, without its end. */
static int print_line(const struct log_reader *r, struct str line, struct err *e)
{
	struct str rest = line, when = str_cut(&rest, ' '), stream = str_cut(&rest, ' '), tag = str_cut(&rest, ' ');
	bool partial = str_starts(tag, "P");
	int fd = str_eqz(stream, "stderr") ? STDERR_FILENO : STDOUT_FILENO;

	if (!stream.p || !tag.p)
		return err_set(e, ERR_DATA_LOSS, "%s has a line that is not in CRI's log format", r->path);
	if (r->timestamps && (fd_write_all(fd, when.p, when.len, e) < 0 || fd_write_all(fd, " ", 1, e) < 0))
		return -1;
	if (rest.len && fd_write_all(fd, rest.p, rest.len, e) < 0)
		return -1;
	return partial ? 0 : fd_write_all(fd, "\n", 1, e);
}

static int print_lines(struct log_reader *r, struct err *e)
{
	const char *end;

	while ((end = r->pending.len ? memchr(r->pending.p, '\n', r->pending.len) : NULL)) {
		size_t n = (size_t)(end - r->pending.p);

		if (print_line(r, (struct str){ r->pending.p, n }, e) < 0)
			return -1;
		buf_consume(&r->pending, n + 1);
	}
	return 0;
}

/* What the open file has, a good piece of it at once: 1 if there may be more. Whoever follows a container
 * that never stops writing has signals to see to. */
static int copy_file(struct log_reader *r, struct err *e)
{
	for (int i = 0; i < READS_AT_ONCE; i++) {
		ssize_t n;

		if (buf_reserve(&r->pending, READ_BYTES, e) < 0)
			return err_in(e, "%s: a line", r->path);
		n = read(r->fd, r->pending.p + r->pending.len, READ_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "read %s", r->path);
		if (n == 0)
			return 0;
		r->pending.len += (size_t)n;
		if (print_lines(r, e) < 0)
			return -1;
	}
	return 1;
}

/* After a rotation the name leads to another file. The writer is told of it only then, and may still write to the old
 * one: that is complete, and left, when the new one has something, or when nobody writes any more. */
static int go_over(struct log_reader *r, bool writer_ended, struct err *e)
{
	auto_fd int fresh = fd_open(AT_FDCWD, r->path, O_RDONLY, e);
	struct stat st;
	int rc;

	if (fresh < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (r->watch_fd >= 0)
		watch(r);
	if (fstat(fresh, &st) < 0)
		return err_sys(e, errno, "stat %s", r->path);
	if (!st.st_size && !writer_ended)
		return copy_file(r, e);
	while ((rc = copy_file(r, e)) > 0)
		;
	if (rc < 0)
		return -1;
	fd_close(&r->fd);
	r->fd = fd_take(&fresh);
	buf_clear(&r->pending); /* a line that was cut by a full disk or a crash */
	return copy_file(r, e);
}

static int copy(struct log_reader *r, bool writer_ended, struct err *e)
{
	char events[4096];
	struct stat old, now;
	int rc;

	while (r->watch_fd >= 0 && read(r->watch_fd, events, sizeof(events)) > 0)
		;
	rc = copy_file(r, e);
	if (rc)
		return rc;
	if (fstat(r->fd, &old) < 0 || stat(r->path, &now) < 0)
		return 0; /* between the rename and the new file, or removed */
	if (old.st_ino != now.st_ino || old.st_dev != now.st_dev)
		return go_over(r, writer_ended, e);
	if (lseek(r->fd, 0, SEEK_CUR) > now.st_size && lseek(r->fd, 0, SEEK_SET) == 0)
		return copy_file(r, e); /* it was truncated */
	return 0;
}

int log_reader_copy(struct log_reader *r, struct err *e)
{
	return copy(r, false, e);
}

int log_reader_finish(struct log_reader *r, struct err *e)
{
	int rc;

	while ((rc = copy(r, true, e)) > 0)
		;
	return rc;
}

struct pollfd log_reader_poll(const struct log_reader *r)
{
	return (struct pollfd){ .fd = r->watch_fd, .events = POLLIN };
}

int log_reader_poll_ms(const struct log_reader *r)
{
	return r->watch_fd >= 0 ? LOG_RECHECK_MS : LOG_LOOK_MS;
}

static int copy_until_exit(struct log_reader *r, struct call *c, struct waiter *w, struct err *e)
{
	for (;;) {
		struct pollfd fds[] = { { .fd = waiter_fd(w), .events = POLLIN }, log_reader_poll(r) };

		int more = log_reader_copy(r, e);

		if (more < 0 || io_poll(c, fds, ARRAY_SIZE(fds), more ? 0 : log_reader_poll_ms(r), e) < 0)
			return -1;
		if (fds[0].revents) /* it has exited, and its log is complete */
			return log_reader_finish(r, e);
	}
}

static int follow_to_exit(struct cli *cli, struct log_reader *r, const char *container_id, struct err *e)
{
	struct waiter *w;
	int rc;

	if (waiter_start(cli, container_id, &w, e) < 0)
		return -1;
	rc = copy_until_exit(r, cli->call, w, e);
	waiter_end(w);
	return rc;
}

int verb_logs(struct cli *cli, char *const *argv, struct err *e)
{
	bool follow = false, timestamps = false;
	const struct opt opts[] = {
		{ OPT_FLAG, 'f', "follow", &follow, NULL, "Go on until the container has exited" },
		{ OPT_FLAG, 't', "timestamps", &timestamps, NULL, "With the time of each line" },
		{ 0 },
	};
	struct log_reader r;
	struct found found;
	const char *name;
	char **words;
	int rc = cli_options(cli, "logs", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (cli_one_word(words, "the container", &name, e) < 0 || cli_find(cli, name, &found, e) < 0)
		return -1;
	if (str_is_empty(found.log_path))
		return err_set(e, ERR_NOT_FOUND, "container %s has no log", name);
	if (log_reader_open(&r, found.log_path, e) < 0)
		return -1;
	r.timestamps = timestamps;
	if (follow)
		log_reader_watch(&r);
	rc = follow ? follow_to_exit(cli, &r, found.id, e) : log_reader_finish(&r, e);
	log_reader_close(&r);
	return rc < 0 ? -1 : 0;
}
