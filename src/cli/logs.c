/* Container logs as knarr-pod writes them: "TIME STREAM TAG text", TAG F for a whole line, P for a part. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 1024 * 1024 };

int log_reader_open(struct log_reader *r, const char *path, struct err *e)
{
	*r = (struct log_reader){ .fd = -1, .path = path, .pending = BUF(LOG_LINE_MAX) };
	r->fd = fd_open(AT_FDCWD, path, O_RDONLY, e);
	return r->fd < 0 ? -1 : 0;
}

void log_reader_close(struct log_reader *r)
{
	fd_close(&r->fd);
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

int log_reader_copy(struct log_reader *r, struct err *e)
{
	bool any = false;

	for (;;) {
		ssize_t n;

		if (buf_reserve(&r->pending, 65536, e) < 0)
			return err_in(e, "%s: a line", r->path);
		n = read(r->fd, r->pending.p + r->pending.len, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "read %s", r->path);
		if (n == 0)
			return any;
		r->pending.len += (size_t)n;
		any = true;
		if (print_lines(r, e) < 0)
			return -1;
	}
}

/* After a rotation the name leads to a new file: read the old one to its end, then go over. */
static int follow_rotation(struct log_reader *r, struct err *e)
{
	struct stat old, now;
	int fresh;

	if (fstat(r->fd, &old) < 0 || stat(r->path, &now) < 0 || (old.st_ino == now.st_ino && old.st_dev == now.st_dev))
		return 0;
	if (log_reader_copy(r, e) < 0)
		return -1;
	fresh = fd_open(AT_FDCWD, r->path, O_RDONLY, e);
	if (fresh < 0)
		return -1;
	fd_close(&r->fd);
	r->fd = fresh;
	return log_reader_copy(r, e);
}

int log_reader_follow(struct log_reader *r, struct call *c, int stop_fd, struct err *e)
{
	auto_fd int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	auto_arena a = { 0 };
	char *folder = arena_strndup(&a, r->path, (size_t)(strrchr(r->path, '/') - r->path));
	char events[4096];

	if (watch < 0 || inotify_add_watch(watch, r->path, IN_MODIFY) < 0 ||
	    inotify_add_watch(watch, folder, IN_CREATE | IN_MOVED_TO) < 0)
		return err_sys(e, errno, "watch %s", r->path);
	for (;;) {
		struct pollfd fds[] = { { .fd = watch, .events = POLLIN }, { .fd = stop_fd, .events = POLLIN } };

		if (log_reader_copy(r, e) < 0 || follow_rotation(r, e) < 0)
			return -1;
		if (io_poll(c, fds, 2, -1, e) < 0)
			return -1;
		if (fds[1].revents)
			return log_reader_copy(r, e) < 0 ? -1 : 0;
		while (read(watch, events, sizeof(events)) > 0)
			;
		(void)inotify_add_watch(watch, r->path, IN_MODIFY); /* a new file may lie there now */
	}
}

static int follow_to_exit(struct cli *cli, struct log_reader *r, const char *container_id, struct err *e)
{
	struct waiter *w;
	int rc;

	if (waiter_start(cli, container_id, &w, e) < 0)
		return -1;
	rc = log_reader_follow(r, cli->call, waiter_fd(w), e);
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
	rc = log_reader_copy(&r, e);
	if (rc >= 0 && follow)
		rc = follow_to_exit(cli, &r, found.id, e);
	log_reader_close(&r);
	return rc < 0 ? -1 : 0;
}
